"""Replicate: everything is a prediction, whose `input` is the model's own.

    POST /models/{owner}/{name}/predictions {"input"}    official models
    POST /predictions {"version", "input"}               any other, by its version
    POST /files                                          a large picture first
    POST /predictions/{id}/cancel                        what has begun is charged until then

The answer is waited for a few seconds (`Prefer: wait`), then polled. What a model can do and how it names things stands
in `models`; one that is not there takes its input from `provider_options`.
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
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Inline,
    Job,
    Media,
    Part,
    Provider,
    Reply,
    Step,
    Wait,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.base import no_events as event
from translators.replicate.models import MAKES, MODELS, VERSIONS, Shape, shape

__all__ = ["MODELS", "PROVIDER", "base", "cancel", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Replicate",
    env={"api_key": "REPLICATE_API_TOKEN"},
    settings=frozenset({"wait", "cancel_after"}),
    hosts=frozenset({"api.replicate.com"}),
    docs="https://replicate.com/docs/reference/http",
    poll_seconds=1.0,
)
FIRST_POLL = 0.5
WAIT = "5"  # seconds: enough for quick models; a connection that is cut meanwhile takes the prediction's id with it
INLINE_BYTES = 256_000  # larger pictures are uploaded, as the vendor advises
DECLARED = Caps(
    ops=MAKES,
    max_images=10,
    options=frozenset({"*"}),
    note="Not among the models that this release knows: its own fields go into provider_options.",
)
MODEL = re.compile(r"[0-9a-f]{64}|deployments/[\w.-]+/[\w.-]+|(?!deployments/)[\w.-]+/[\w.-]+(?::[0-9a-f]{64})?")


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://api.replicate.com/v1"


def caps(model: str) -> Caps | None:
    """A version of a known model is that model."""
    if not MODEL.fullmatch(model) or ".." in model:
        return None
    return MODELS.get(model.partition(":")[0], DECLARED)


# ---- what is sent


def start(job: Job) -> Step:
    return forward(job, ())


def forward(job: Job, urls: tuple[str, ...]) -> Call:
    """The next upload, or the prediction once every large picture has its address in `urls`."""
    left = [media for media in pictures(job) if is_large(media)][len(urls) :]
    if not left:
        return prediction(job, urls)
    state = msgspec.json.encode(urls).decode() if urls else ""
    return Call(path="/files", form=(Part("content", left[0]),), repeatable=True, state=state)  # nothing is paid yet


def pictures(job: Job) -> tuple[Media, ...]:
    return (*job.images, job.mask) if job.mask else job.images


def is_large(media: Media) -> bool:
    return media.blob.length > INLINE_BYTES


def prediction(job: Job, urls: tuple[str, ...]) -> Call:
    names = named(job)
    fields = {
        "prompt": prompt(job),
        names.count: job.n if job.n > 1 else None,  # models that make one refuse the word
        **measures(job, names),
        **placed(job, names, urls),
        **tuning(job, names),
    }
    said = {name: value for name, value in fields.items() if name and value is not None}
    path, version = route(job.model)
    body = {"version": version} if version else {}
    return Call(path=path, json={**body, "input": said | options(job, said)}, headers=headers(job.site))


def route(model: str) -> tuple[str, str | None]:
    """Where the model's predictions are made, and the version to name there."""
    name, colon, version = model.partition(":")
    if name.startswith("deployments/"):
        return f"/{name}/predictions", None
    if colon or "/" not in name or name in VERSIONS:
        return "/predictions", version or VERSIONS.get(name, name)
    return f"/models/{name}/predictions", None


def headers(site: Mapping[str, str]) -> dict[str, str]:
    seconds = site.get("wait") or WAIT
    if not re.fullmatch(r"[0-9]|[1-5][0-9]|60", seconds):
        text = f"The setting 'wait' of replicate is '{seconds}'; it may be 0 to 60 seconds."
        raise Fault("invalid", text, code="invalid_value", param="wait")
    said = {"Prefer": f"wait={seconds}" if seconds != "0" else "", "Cancel-After": site.get("cancel_after", "")}
    return {name: value for name, value in said.items() if value}


def named(job: Job) -> Shape:
    """The model's names; of a model that is not known, the client may tell the picture's."""
    names = shape(job.model)
    field = job.options.get("image_field")
    if field is None or job.model.partition(":")[0] in MODELS:
        return names
    if not isinstance(field, str) or not re.fullmatch(r"\w+(?:\[\])?", field):
        raise refusal("image_field", "'image_field' is the name of the model's input for pictures, such as 'images[]'")
    return replace(names, images=(field,))


def options(job: Job, said: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own inputs. What the request itself has a field for is not taken from them."""
    own = {name: value for name, value in job.options.items() if name != "image_field"}
    if job.model.partition(":")[0] not in MODELS and (twice := sorted({"prompt", *said} & own.keys())):
        raise refusal(twice[0], f"'{twice[0]}' cannot be given in provider_options: the request itself says it")
    return own


def refusal(name: str, text: str) -> Fault:
    return Fault("invalid", f"{text}.", code="invalid_value", param=f"provider_options.{name}")


def prompt(job: Job) -> str | None:
    known = caps(job.model)
    if known and not known.prompt_chars:
        return None
    return prompted(job) or None


def measures(job: Job, names: Shape) -> dict[str, Any]:
    """The fields that tell the size."""
    if job.size:
        width, height = job.size
        if names.size == "text":
            return {"size": f"{width}x{height}"}
        if names.size == "star":
            return {"size": f"{width}*{height}"}
        return {"width": width, "height": height} | ({names.custom: "custom"} if names.size == "custom" else {})
    said = {"aspect_ratio": job.ratio, names.tier: job.resolution}
    return {**(names.kept if job.images and not job.ratio else {}), **drop_none(said)}


def drop_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def placed(job: Job, names: Shape, urls: tuple[str, ...]) -> dict[str, Any]:
    """The fields that hold pictures: addresses of the uploaded ones, data URLs of the others."""
    uploaded = iter(urls)
    sent: list[str | Inline] = [next(uploaded) if is_large(media) else data_url(media) for media in pictures(job)]
    mask = {names.mask: sent.pop()} if job.mask else {}
    if names.images[0].endswith("[]"):
        return {names.images[0][:-2]: sent or None, **mask}
    if len(sent) > len(names.images):
        most = len(names.images)
        text = f"The model {job.model} takes at most {most} picture{'s' * (most > 1)} by the input that is known."
        raise Fault("invalid", f"{text} Name a list with provider_options.image_field.", param="image")
    return {**dict(zip(names.images, sent, strict=False)), **mask}


def tuning(job: Job, names: Shape) -> dict[str, Any]:
    """Everything that tells how to paint."""
    known = caps(job.model)
    kind = job.format or ("png" if known and "png" in known.formats else None)  # many would give WebP
    fields: dict[str, Any] = {
        "output_format": "jpg" if kind == "jpeg" and names.jpg else kind,
        names.compression: job.compression,
        "quality": job.quality,
        "background": job.background,
        "input_fidelity": job.fidelity,
        names.style: names.styles.get(job.style, job.style) if job.style else None,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        names.steps: job.steps,
        names.guidance: job.guidance,
        "user_id": job.user,
        **loras(job),
    }
    return fields | (dict(names.lenient) if job.moderation == "low" else {})


def loras(job: Job) -> dict[str, Any]:
    """Two at most: there are fields for no more."""
    if len(job.loras) > 2:
        raise Fault("invalid", f"The model {job.model} takes at most 2 LoRAs.", code="invalid_value", param="loras")
    fields: dict[str, Any] = {}
    for lora, (name, scale) in zip(job.loras, LORA_FIELDS, strict=False):
        fields |= {name: lora.model, scale: lora.weight}
    return fields


LORA_FIELDS = (("lora_weights", "lora_scale"), ("extra_lora", "extra_lora_scale"))


# ---- what comes back


class Urls(msgspec.Struct, frozen=True):
    get: str | None = None


class Stored(msgspec.Struct, frozen=True):
    """An uploaded file."""

    urls: Urls


class Prediction(msgspec.Struct, frozen=True):
    """`output` is an address, a list of them, or whatever else a model gives."""

    id: str = ""
    status: str | None = None
    output: Any = None
    error: Any = None
    urls: Urls | None = None
    completed_at: str | None = None
    data_removed: bool | None = None
    metrics: Any = None


def step(job: Job, reply: Reply) -> Step:
    call = reply.call
    if call.form:
        if not (url := reply.read(Stored).urls.get):
            raise Fault("upstream", "The provider stored a picture without naming its address.", code="unreadable")
        before = msgspec.json.decode(call.state, type=tuple[str, ...]) if call.state else ()
        return forward(job, (*before, url))
    found = reply.read(Prediction)
    if found.status == "succeeded" or (found.output and found.completed_at):  # held answers may lag behind
        return finished(job, reply, found)
    queued = found.status == "starting"
    if call.method == "GET":
        return Wait(call, PROVIDER.poll_seconds, queued=queued)
    poll = (found.urls.get if found.urls else None) or f"/predictions/{found.id}"
    return Wait(Call(method="GET", path=poll, repeatable=True), FIRST_POLL, queued=queued)


STOP = "/cancel"


def cancel(job: Job, waiting: Call) -> Call:
    return Call(path=f"{waiting.path}{STOP}", repeatable=True)


def finished(job: Job, reply: Reply, found: Prediction) -> Done:
    seconds = found.metrics.get("predict_time") if isinstance(found.metrics, dict) else None
    extra = drop_none({"id": found.id or None, "predict_time": seconds})
    outputs = tuple(
        output
        for url in addresses(reply, found.output)
        if (output := shapes.pictured(reply, shapes.Made(url=url), extra))
    )
    if not outputs and found.data_removed:
        text = "The provider has already removed the picture that it made; it keeps them for an hour."
        raise Fault("upstream", text, code="data_removed", final=True)
    if not outputs:
        raise shapes.nothing()
    text = f"The provider made {len(outputs)} of {job.n} pictures."
    faults = (Fault("empty", text, code="no_image"),) * (job.n - len(outputs))
    return Done(outputs=outputs, faults=faults)


def addresses(reply: Reply, output: Any) -> Iterator[str]:
    """The addresses in an output, and the pictures that are written into it."""
    if isinstance(output, str):
        if output in reply.lifted or output.startswith(("http://", "https://", "data:")):
            yield output
    elif isinstance(output, list | dict):
        for each in output.values() if isinstance(output, dict) else output:
            yield from addresses(reply, each)


# ---- what went wrong

REFUSED = re.compile(
    r"\bE005\b|\bnsfw\b|flagged|(?<!case[ -])\bsensitive\b|safety(?!_)|moderat(?:ion|ed)|content.?polic|prohibited",
    re.IGNORECASE,
)
CODE = re.compile(r"\b(E\d{3,4})\b|\bcode: (PA)\b")
KINDS: Mapping[str, FaultKind] = {
    "E003": "overloaded",  # the vendor behind the model is busy
    "E004": "upstream",
    "E006": "invalid",
    "E1000": "upstream",
    "E1001": "upstream",  # out of memory: a smaller picture may pass
    "E4875": "invalid",
    "E6716": "overloaded",  # it did not start in time
    "E8765": "upstream",
    "E9243": "upstream",
    "E9825": "upstream",
    "E9828": "upstream",
    "PA": "overloaded",  # interrupted
}
PARAMS = {
    "width": "size", "height": "size", "num_outputs": "n", "number_of_images": "n", "image_input": "image",
    "input_image": "image", "input_images": "image", "image_prompt": "image", "redux_image": "image",
    "control_image": "image", "images": "image", "lora_weights": "loras", "extra_lora": "loras",
    "num_inference_steps": "steps", "guidance_scale": "guidance", "cfg": "guidance", "output_quality":
    "output_compression", "safety_tolerance": "moderation", "version": "model",
}  # fmt: skip


class Field(msgspec.Struct, frozen=True):
    field: str = ""


class Problem(msgspec.Struct, frozen=True):
    """An error's body (RFC 7807), or a prediction that failed."""

    title: Any = None
    detail: Any = None
    status: Any = None  # the number, or the prediction's
    error: Any = None
    retry_after: Any = None
    invalid_fields: Any = None
    started_at: Any = None


STOPPED = frozenset({"canceled", "aborted"})


def check(reply: Reply) -> None:
    try:
        problem = reply.read(Problem)
    except Fault:  # HTML from an edge, or nothing; a success that cannot be read is `step`'s affair
        problem = Problem()
    if reply.status >= 400:
        raise refused(reply, problem)
    if reply.call.path.endswith(STOP):
        check_stop(problem)
    elif problem.status in STOPPED:
        text = f"The provider's prediction was {problem.status}."
        raise Fault("cancelled", f"{text} {said(problem.error)}".strip(), code=problem.status, final=True)
    elif problem.status == "failed":
        raise failed(said(problem.error) or "The provider failed to make the picture, and said no reason.")


def check_stop(problem: Problem) -> None:
    """Only what never began is free: else the time is charged that it ran."""
    if problem.status not in STOPPED or problem.started_at:
        state = said(problem.status) or "of no status"
        text = f"The provider's prediction is {state}, and had begun: it may be charged."
        raise Fault("upstream", text, code="prediction_begun")


def failed(text: str) -> Fault:
    """Why a prediction failed: by the code in its text, then by its words."""
    if REFUSED.search(text):
        return Fault("policy", text, code="moderation_blocked", final=True)
    found = CODE.search(text)
    code = found and (found[1] or found[2])
    return Fault(KINDS.get(code or "", "upstream"), text, code=code or "task_failed", final=True)


def refused(reply: Reply, problem: Problem) -> Fault:
    """What an HTTP error means."""
    title, detail = said(problem.title), said(problem.detail)
    message = detail if not title or title in detail else f"{title}: {detail}" if detail else title
    kind: FaultKind = BY_STATUS.get(reply.status, "upstream" if reply.status >= 500 else "invalid")
    code, param = None, field(problem)
    if title.startswith("Invalid version"):  # it is not there, or not for this account
        kind = "missing"
    if kind == "missing":
        submit = reply.call.method == "POST"
        code, param = ("model_not_found", "model") if submit else ("task_not_found", None)
    wait = retry_after(reply)
    if wait is None and isinstance(problem.retry_after, int | float):
        wait = float(problem.retry_after)
    return Fault(kind, message or shapes.unread(reply), code=code, param=param, retry_after=wait)


def said(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


INPUT = re.compile(r"\binput\.(\w+)")


def field(problem: Problem) -> str | None:
    """The parameter that a validation error names first."""
    try:
        fields = msgspec.convert(problem.invalid_fields or [], list[Field])
    except msgspec.ValidationError:
        fields = []
    found = INPUT.search(fields[0].field if fields else said(problem.detail))
    return PARAMS.get(found[1], found[1]) if found else None
