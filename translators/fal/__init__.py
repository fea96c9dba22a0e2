"""fal: some 1,200 endpoints behind one queue.

    POST queue.fal.run/{endpoint} {input}  -> status_url, response_url; GET them in turn
    PUT  {response_url}/cancel             -> CANCELLATION_REQUESTED, of what waits and of what is at work
    POST fal.run/{endpoint} {input}        -> the same output at once, where `route` is "sync"
    POST rest.fal.ai/storage/upload/…      -> a place to PUT a large picture first

What an endpoint can do and how it names things stands in `models`; one that is not there takes its input from
`provider_options`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators import shapes
from translators.base import (
    BY_STATUS,
    VARY,
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Inline,
    Job,
    Media,
    Output,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    Wait,
    data_url,
    header,
    prompted,
    retry_after,
)
from translators.base import no_events as event
from translators.fal.models import MAKES, MODELS, ROUTES, Route, Shape, path, shape

__all__ = ["MODELS", "PROVIDER", "base", "cancel", "caps", "check", "event", "sign", "start", "step"]

BASES = {"queue": "https://queue.fal.run", "sync": "https://fal.run"}
STORAGE = "https://rest.fal.ai"
PROVIDER = Provider(
    title="fal",
    env={"api_key": "FAL_KEY"},
    settings=frozenset({"route", "priority", "store_io", "no_retry", "start_timeout", "file_seconds"}),
    hosts=frozenset({"fal.run", "queue.fal.run", "rest.fal.ai", "falrun.com", "queue.falrun.com"}),
    docs="https://fal.ai/docs",
    poll_seconds=1.0,
)
FIRST_POLL = 0.5
INLINE_BYTES = 1_000_000  # larger pictures are uploaded: a queued body is kept whole
DECLARED = Caps(
    ops=MAKES,
    max_images=1,
    options=frozenset({"*"}),
    note="Not among the endpoints that this release knows: its own fields go into provider_options.",
)
OWNED = frozenset({"prompt", "num_images", "image_url", "image_urls", "mask_url", "mask_image_url"})
ENDPOINT = re.compile(r"(?:(?:workflows|comfy)/)?[\w.-]+(?:/[\w.-]+)+")


def base(site: Mapping[str, str]) -> str:
    """The address of the route; `base_url` stands for both, and for the storage."""
    return site.get("base_url", "").rstrip("/") or BASES.get(site.get("route") or "queue", BASES["queue"])


def caps(model: str) -> Caps | None:
    if known := MODELS.get(model):
        return known
    if not ENDPOINT.fullmatch(model) or ".." in model:
        return None
    if re.search(r"inpaint|/fill|eraser|genfill", model):
        return replace(DECLARED, mask="white-edits")
    return replace(DECLARED, max_images=10) if shape(model).image.endswith("urls") else DECLARED


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    return header(call, "Authorization", f"Key {secret.key}")


# ---- what is sent


def start(job: Job) -> Step:
    if job.site.get("route", "queue") not in BASES:
        text = f"The setting 'route' of fal is '{job.site['route']}'; it may be 'queue' or 'sync'."
        raise Fault("invalid", text, code="invalid_value", param="route")
    if job.model not in MODELS and (smuggled := sorted(OWNED & job.options.keys())):
        text = f"'{smuggled[0]}' cannot be given in provider_options; the request itself has a field for it."
        raise Fault("invalid", text, code="invalid_value", param=f"provider_options.{smuggled[0]}")
    return forward(job, ())


def forward(job: Job, urls: tuple[str, ...]) -> Call:
    """The next upload, or the job itself once every large picture has its address in `urls`."""
    left = [media for media in pictures(job) if is_large(media)][len(urls) :]
    if not left:
        return submission(job, urls)
    kind = left[0].type.rpartition("/")[2]
    return Call(
        path=("" if job.site.get("base_url") else STORAGE) + "/storage/upload/initiate",
        query={"storage_type": "gcs"},
        json={"file_name": f"image.{kind}", "content_type": left[0].type},
        repeatable=True,  # nothing is paid yet
        state=remembered(urls),
    )


def pictures(job: Job) -> tuple[Media, ...]:
    return (*job.images, job.mask) if job.mask else job.images


def is_large(media: Media) -> bool:
    return media.blob.length > INLINE_BYTES


def remembered(urls: tuple[str, ...]) -> str:
    return msgspec.json.encode(urls).decode() if urls else ""


def recalled(call: Call) -> tuple[str, ...]:
    return msgspec.json.decode(call.state, type=tuple[str, ...]) if call.state else ()


def endpoint(job: Job) -> str:
    """The endpoint that does this kind of job for the model."""
    route = ROUTES.get(job.model, Route())
    if job.mask and route.masked:
        return path(job.model, route.masked)
    if len(job.images) > 1 and route.several:
        return path(job.model, route.several)
    return path(job.model, route.edit if job.images else route.generate)


def submission(job: Job, urls: tuple[str, ...]) -> Call:
    target = endpoint(job)
    names = shape(target)
    fields = {
        "prompt": prompt(job),
        names.count: job.n if job.n > 1 else None,  # endpoints that make one do not know the word
        **measures(job, names),
        **placed(job, names, urls),
        **tuning(job, names),
    }
    said = {name: value for name, value in fields.items() if name and value is not None}
    return Call(path=f"/{target}", json=said | dict(job.options), headers=headers(job.site))


def prompt(job: Job) -> str | None:
    """The client's; where it has none, what stands for it."""
    known = caps(job.model)
    if known and not known.prompt_chars:
        return None
    return prompted(job) or None


def measures(job: Job, names: Shape) -> dict[str, Any]:
    """The fields that tell the size."""
    if job.size:
        width, height = job.size
        return {"image_size": f"{width}x{height}" if names.text_size else {"width": width, "height": height}}
    if names.tiers:
        return {"image_size": f"auto_{job.resolution}" if job.resolution else None}
    return {names.ratio: job.ratio, "resolution": job.resolution}


def placed(job: Job, names: Shape, urls: tuple[str, ...]) -> dict[str, Any]:
    """The fields that hold pictures: addresses of the uploaded ones, data URLs of the others."""
    uploaded = iter(urls)
    sent: list[str | Inline] = [next(uploaded) if is_large(media) else data_url(media) for media in pictures(job)]
    mask = sent.pop() if job.mask else None
    fields: dict[str, Any] = {}
    if sent:
        fields[names.image] = sent if names.image.endswith("urls") else sent[0]
    if mask:
        fields[names.mask] = mask
    if job.op == "variation" and not job.prompt and job.model.endswith("v1.1-ultra"):
        fields["image_prompt_strength"] = 1.0  # at the vendor's 0.1 nothing of the picture would be left
    return fields


def tuning(job: Job, names: Shape) -> dict[str, Any]:
    """Everything that tells how to paint."""
    known = caps(job.model)
    usual = "png" if known and "png" in known.formats else None  # many would give JPEG
    lenient = "5" if job.model.startswith("fal-ai/flux-2-") else "6"
    return {
        names.format: job.format or usual,
        names.quality: job.quality,
        "background": job.background,
        "input_fidelity": job.fidelity,
        "style": names.styles.get(job.style, job.style) if job.style else None,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "num_inference_steps": job.steps,
        "guidance_scale": job.guidance,
        "safety_tolerance": lenient if job.moderation == "low" else None,  # a text, on every endpoint
        "loras": [{"path": lora.model, "scale": lora.weight} for lora in job.loras] or None,
    }


def headers(site: Mapping[str, str]) -> dict[str, str]:
    """What the settings say of every job."""
    life = site.get("file_seconds")
    said = {
        "X-Fal-Queue-Priority": site.get("priority"),
        "X-Fal-Store-IO": "0" if site.get("store_io") == "false" else None,
        "X-Fal-No-Retry": "1" if site.get("no_retry") == "true" else None,
        "X-Fal-Request-Timeout": site.get("start_timeout"),
        "X-Fal-Object-Lifecycle-Preference": f'{{"expiration_duration_seconds": {life}}}' if life else None,
    }
    return {name: value for name, value in said.items() if value}


# ---- what comes back


class Place(msgspec.Struct, frozen=True):
    """Where an upload goes, and where it can be read then."""

    upload_url: str
    file_url: str


class Status(msgspec.Struct, frozen=True):
    """Of a queued request. COMPLETED is only the end: failed requests have an `error` beside it."""

    status: str | None = None
    error: Any = None
    error_type: str | None = None


class File(msgspec.Struct, frozen=True):
    url: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """An output, or the receipt of a queued request."""

    request_id: str | None = None
    status_url: str | None = None
    response_url: str | None = None
    images: tuple[File | str, ...] | None = None
    image: File | str | None = None
    has_nsfw_concepts: tuple[Any, ...] | None = None
    seed: int | None = None
    prompt: str | None = None
    actual_prompt: str | None = None
    description: str | None = None
    usage: Any = None


def step(job: Job, reply: Reply) -> Step:
    call = reply.call
    if "storage_type" in call.query:
        place = reply.read(Place)
        media = [media for media in pictures(job) if is_large(media)][len(recalled(call))]
        state = remembered((*recalled(call), place.file_url))
        return Call(
            method="PUT", path=place.upload_url, media=media, anonymous=True, repeatable=True, state=state
        )  # fmt: skip
    if call.method == "PUT":
        return forward(job, recalled(call))
    if reply.status >= 400:  # `check` lets pass only that it is not ready
        return Wait(call, PROVIDER.poll_seconds)
    if is_status(call):
        return followed(call, reply.read(Status))
    answer = reply.read(Answer)
    if answer.images or answer.image:
        return finished(job, reply, answer)
    if call.method == "POST" and answer.request_id:
        return queued(job, call, answer)
    if call.state:  # the status told of an error already
        raise failed(reply, Problem())
    raise nothing(answer)


def is_status(call: Call) -> bool:
    return call.method == "GET" and call.path.partition("?")[0].endswith("/status")


def queued(job: Job, call: Call, answer: Answer) -> Wait:
    """The addresses as they were given; where they were not, only owner and alias of the endpoint are in them."""
    names = call.path.strip("/").split("/")
    app = "/".join(names[: 3 if names[0] in {"workflows", "comfy"} else 2])
    result = answer.response_url or f"{base(job.site)}/{app}/requests/{answer.request_id}"
    status = answer.status_url or f"{result}/status"
    return Wait(Call(method="GET", path=status, repeatable=True, state=result), FIRST_POLL)


def followed(call: Call, status: Status) -> Wait:
    """The next poll, or the result: it also tells best what an error was, so the status' own is only kept."""
    if status.status != "COMPLETED":
        return Wait(call, PROVIDER.poll_seconds, queued=status.status == "IN_QUEUE")
    kept = {name: value for name in ("error", "error_type") if (value := getattr(status, name))}
    state = msgspec.json.encode(kept).decode() if kept else ""
    return Wait(Call(method="GET", path=call.state, repeatable=True, state=state), 0.0)


def cancel(job: Job, waiting: Call) -> Call | None:
    """Takes the request out of the queue, or asks its runner to stop; nothing is left to stop where it has ended."""
    return Call(method="PUT", path=f"{waiting.state}/cancel", repeatable=True) if is_status(waiting) else None


def is_cancel(call: Call) -> bool:
    return call.method == "PUT" and not call.anonymous


def finished(job: Job, reply: Reply, answer: Answer) -> Done:
    checks = job.options.get("enable_safety_checker") is not False
    flags = answer.has_nsfw_concepts or () if checks else ()
    files = answer.images or ((answer.image,) if answer.image else ())
    outputs: list[Output] = []
    faults: list[Fault] = []
    for index, file in enumerate(files):
        if index < len(flags) and flags[index] is True:  # it is painted black
            text = "The provider's safety checker blacked the made image out."
            faults.append(Fault("policy", text, code="moderation_blocked"))
            faults[-1].lost = 1 if units(reply) else 0  # it was made, and billed
        elif output := made(job, reply, answer, file):
            outputs.append(output)
    if not outputs and faults:
        faults[0].usage, faults[0].lost = shapes.counted(answer.usage), sum(fault.lost for fault in faults)
        raise faults[0]
    if not outputs:
        raise nothing(answer)
    missing = job.n - len(outputs) - len(faults)
    faults += [Fault("empty", f"The provider made {len(files)} of {job.n} pictures.", code="no_image")] * missing
    return Done(
        outputs=tuple(outputs), usage=shapes.counted(answer.usage), faults=tuple(faults), quality=usual(job)
    )  # fmt: skip


def usual(job: Job) -> str | None:
    """The vendor's own quality, where none was asked for and its prices go by it."""
    return "BALANCED" if shape(job.model).quality == "rendering_speed" and job.quality is None else None


def made(job: Job, reply: Reply, answer: Answer, file: File | str) -> Output | None:
    told = {"seed": answer.seed, "description": answer.description, "billable_units": units(reply)}
    said = answer.actual_prompt or answer.prompt
    revised = said if said and said not in {job.prompt, VARY} else None
    url = file if isinstance(file, str) else file.url
    extra = {name: value for name, value in told.items() if value not in {None, ""}}
    return shapes.pictured(reply, shapes.Made(url=url, revised_prompt=revised), extra)


def units(reply: Reply) -> float | None:
    """How many of its units were billed; what one costs, no answer says."""
    try:
        return float(reply.headers["x-fal-billable-units"])
    except (KeyError, ValueError):
        return None


def nothing(answer: Answer) -> Fault:
    if not answer.description:
        return shapes.nothing()
    text = f"The provider answered in words, without a picture: {answer.description[:200]}"
    return Fault("empty", text, code="no_image")


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "content_policy_violation": "policy",
    "no_media_generated": "policy",  # nothing came out of Google's models: nearly always a block
    "bad_request": "invalid",
    "request_timeout": "timeout",
    "generation_timeout": "timeout",
    "startup_timeout": "timeout",
    "client_disconnected": "cancelled",
    "client_cancelled": "cancelled",
    "internal_error": "upstream",
    "internal_server_error": "upstream",
    "runner_server_error": "upstream",
    "downstream_service_error": "upstream",
    "downstream_service_unavailable": "overloaded",
    "runner_incomplete_response": "upstream",
    "runner_scheduling_failure": "overloaded",
    "runner_connection_timeout": "overloaded",
    "runner_connection_refused": "overloaded",
    "runner_connection_error": "overloaded",
    "runner_disconnected": "overloaded",
}
"""By type. The many that tell what is wrong with a field come with a status that says enough."""

PARAMS = {
    "image_size": "size", "aspect_ratio": "aspect_ratio", "resolution_mode": "aspect_ratio", "num_images": "n",
    "max_images": "n", "image_url": "image", "image_urls": "image", "mask_url": "mask", "mask_image_url": "mask",
    "guidance_scale": "guidance", "num_inference_steps": "steps", "rendering_speed": "quality",
    "format": "output_format",
}  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """One thing that an endpoint found wrong."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""
    type: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """An error's body: the endpoint's own has a list in `detail`, the platform's a text."""

    detail: Any = None
    error: Any = None
    error_type: str | None = None
    message: Any = None


def check(reply: Reply) -> None:
    if reply.status < 400:
        if is_cancel(reply.call):  # the same words for one that waits and one that runs on as its runner likes
            text = "The provider was asked to stop; a request that is at work may be finished, and charged."
            raise Fault("upstream", text, code="cancellation_requested")
        return
    try:
        problem = reply.read(Problem)
    except Fault:  # HTML from an edge, XML from a storage, or nothing
        problem = Problem()
    if reply.call.method == "GET" and str(problem.detail).startswith("Request is still in progress"):
        return
    raise failed(reply, problem)


def failed(reply: Reply, problem: Problem) -> Fault:
    """The fault in an answer: by its type, then by its words, then by its status."""
    call = reply.call
    is_result = call.method == "GET" and not is_status(call)
    kept = msgspec.json.decode(call.state, type=Problem) if is_result and call.state else Problem()
    entries = list(entered(problem.detail))
    types = (*(entry.type for entry in entries), problem.error_type, reply.headers.get("x-fal-error-type"))
    code = next(filter(None, (*types, kept.error_type)), None)
    message = told(entries, problem) or words(kept.error) or shapes.unread(reply)
    kind = kind_of(reply, code, message)
    if kind == "policy":
        code = "content_policy_violation" if code == "content_policy_violation" else "moderation_blocked"
    if kind == "missing" and not code:
        code = "model_not_found" if call.method == "POST" else "task_not_found"
    return Fault(
        kind,
        message,
        code=code,
        param="model" if code == "model_not_found" else field(entries),
        retry_after=retry_after(reply),
        final=is_result and bool(entries or problem.error_type or kept != Problem()),
    )


def kind_of(reply: Reply, code: str | None, message: str) -> FaultKind:
    if code and code in KINDS:
        return KINDS[code]
    if message.startswith("User is locked"):  # the balance, though its status says permission
        return "quota"
    return BY_STATUS.get(reply.status, "upstream" if reply.status >= 500 or reply.status < 400 else "invalid")


def entered(detail: Any) -> Iterator[Entry]:
    """The entries of a list of errors; what does not read as one is skipped."""
    for each in detail if isinstance(detail, list) else ():
        try:
            yield msgspec.convert(each, Entry)
        except msgspec.ValidationError:
            continue


def field(entries: list[Entry]) -> str | None:
    """The parameter that the first entry speaks of."""
    names = (name for entry in entries for name in entry.loc if isinstance(name, str) and name != "body")
    name = next(names, None)
    return PARAMS.get(name, name) if name else None


def told(entries: list[Entry], problem: Problem) -> str:
    """The provider's words, each with the field that it is about."""
    lines = (": ".join(filter(None, (field([entry]), entry.msg))) for entry in entries)
    return "; ".join(lines) or next(filter(None, map(words, (problem.detail, problem.message, problem.error))), "")


def words(value: Any) -> str:
    """A text, or the message in an object."""
    if isinstance(value, dict):
        value = value.get("message")
    return value if isinstance(value, str) else ""
