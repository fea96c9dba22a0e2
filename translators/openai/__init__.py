"""OpenAI, and every server that speaks as it does: one call, one answer or a stream; see `shapes`.

Elsewhere than at OpenAI (`base_url`), models are declared in the configuration and start from `DECLARED`, or from what
servers of their `dialect` can do; the settings `response_format` and `variations` are for servers that still have what
OpenAI retired with DALL·E.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from msgspec import json
from msgspec.structs import replace

from translators import shapes
from translators.base import (
    Call,
    Caps,
    Fault,
    FaultKind,
    Free,
    Job,
    Output,
    Part,
    Price,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    Unit,
    base64,
    bearer,
    prompted,
)
from translators.openai.dialects import DIALECTS, Dialect
from translators.shapes import event

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "declared", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="OpenAI",
    # Not OPENAI_BASE_URL: where Pictor runs, it may well be set to Pictor itself.
    env={"api_key": "OPENAI_API_KEY", "organization": "OPENAI_ORG_ID", "project": "OPENAI_PROJECT_ID"},
    settings=frozenset({"organization", "project", "response_format", "variations", "dialect"}),
    regions=("", "us", "eu", "ae", "au", "in", "jp"),
    docs="https://platform.openai.com/docs/api-reference/images",
)

HEADERS = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}


def tokens(text: float, image: float, made: float, written: float = 0) -> tuple[Price, ...]:
    """US dollars for a million tokens each: text in, images in, images out, text out."""
    amounts: tuple[tuple[Unit, float], ...] = (
        ("token.text.in", text),
        ("token.image.in", image),
        ("token.image.out", made),
        ("token.text.out", written),
    )
    return tuple(Price(unit=unit, amount=amount, per=1_000_000) for unit, amount in amounts if amount)


FLEXIBLE = Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3)
THREE = ((1024, 1024), (1536, 1024), (1024, 1536))
SHARED = frozenset({"moderation", "user", "safety_identifier"})

GPT_2 = Caps(
    ops=frozenset({"generate", "edit", "variation"}),
    max_n=10,
    free=FLEXIBLE,
    max_images=16,
    mask="alpha",
    formats=("png", "jpeg", "webp"),
    compression=True,
    qualities=("low", "medium", "high"),
    backgrounds=("transparent", "opaque", "auto"),
    streams=True,
    partials=3,
    params=SHARED,
    prices=tokens(5, 8, 30),
    tokens="gpt-image-2",
)
GPT_25 = replace(GPT_2, qualities=("low", "medium", "high", "xhigh", "max"), markup=True, tokens="gpt-image-2.5")
GPT_26 = replace(
    GPT_25,
    formats=("png", "jpeg", "webp", "gif", "svg"),
    # That it can be transparent is only said of its predecessors; a refusal would come back as it is.
    params=SHARED | {"complexity", "frame_count", "frame_duration_ms", "svg"},
    note="GIF and SVG only for accounts to which OpenAI has opened them; SVG one at a time.",
)
GPT_15 = replace(
    GPT_2, free=None, sizes=THREE, params=SHARED | {"fidelity"}, prices=tokens(5, 8, 32, 10), tokens="gpt-image-1",
    ends="2026-12-01",
)  # fmt: skip
MINI = replace(
    GPT_15,
    params=SHARED,  # its only fidelity, low, needs no asking
    prices=tokens(2, 2.5, 8),
)

MODELS: Mapping[str, Caps] = {
    "gpt-image-2.6-sunburst": GPT_26,
    "gpt-image-2.6-flare": GPT_26,
    "gpt-image-2.5-sunburst": GPT_25,
    "gpt-image-2.5-flare": GPT_25,
    "gpt-image-2": GPT_2,
    "gpt-image-1.5": GPT_15,
    "chatgpt-image-latest": GPT_15,
    "gpt-image-1-mini": MINI,
}

DECLARED = Caps(
    ops=frozenset({"generate", "edit", "variation"}),
    free=Free(step=8),
    max_images=16,
    params=frozenset({"user", "seed", "negative_prompt", "steps", "guidance"}),
    options=frozenset({"*"}),
)
"""What a model is taken for that the configuration names and no release knows: little, so that its server is asked for
nothing that it would refuse or, as with a mask, ignore. The configuration adds what it can do."""

CODES: dict[str, FaultKind] = {
    "invalid_api_key": "auth",
    "invalid_organization": "auth",
    "mismatched_organization": "auth",
    "mismatched_project": "auth",
    "unsupported_country_region_territory": "permission",
    "request_forbidden": "permission",
    "insufficient_quota": "quota",
    "credit_balance_exhausted": "quota",
    "organization_spend_limit_exceeded": "quota",
    "project_spend_limit_exceeded": "quota",
    "organization_usage_limit_exceeded": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "rate_limit_exceeded": "rate",
    "slow_down": "rate",
    "rate_limit_error": "rate",  # this and the next three are types: what the limit counts
    "requests": "rate",
    "tokens": "rate",
    "input-images": "rate",
    "429": "rate",
    "unknown_parameter": "invalid",
    "invalid_value": "invalid",
    "invalid_type": "invalid",
    "missing_required_parameter": "invalid",
    "integer_above_max_value": "invalid",
    "integer_below_min_value": "invalid",
    "decimal_above_max_value": "invalid",
    "decimal_below_min_value": "invalid",
    "string_above_max_length": "invalid",
    "empty_string": "invalid",
    "invalid_input_fidelity_model": "invalid",
    "unsupported_file_mimetype": "invalid",
    "unsupported_content_type": "invalid",
    "invalid_image_file": "invalid",
    "invalid_mask_image_format": "invalid",
    "request_too_large": "invalid",
    "moderation_blocked": "policy",
    "content_policy_violation": "policy",
    "model_not_found": "missing",
    "unknown_url": "missing",
    "method_not_supported": "missing",
    "server_is_overloaded": "overloaded",
    "server_error": "upstream",
}

TEXTS: shapes.Texts = (
    # A retired or unknown model is `invalid_value` by its code, which would end the search for another.
    (re.compile(r"\bmodel\b.{1,200}\bdoes not exist", re.IGNORECASE), "missing", "model_not_found"),
    (re.compile(r"must be verified to use the model|missing scopes", re.IGNORECASE), "permission", None),
)


FIELDS: tuple[tuple[str, str], ...] = (
    ("quality", "quality"),
    ("background", "background"),
    ("format", "output_format"),
    ("compression", "output_compression"),
    ("moderation", "moderation"),
    ("fidelity", "input_fidelity"),
    ("complexity", "complexity"),
    ("frame_count", "frame_count"),
    ("frame_duration_ms", "frame_duration_ms"),
    ("svg", "svg"),
    ("style", "style"),
    ("user", "user"),
    ("safety_identifier", "safety_identifier"),
    # Not OpenAI's: as vLLM-Omni and SGLang name them.
    ("negative_prompt", "negative_prompt"),
    ("seed", "seed"),
    ("steps", "num_inference_steps"),
    ("guidance", "guidance_scale"),
)
"""Field of `Job` -> its name on the wire."""

SETTLED = frozenset({
    "model", "prompt", "n", "size", "stream", "partial_images", "image", "images", "mask", "markup", "url", "file",
    "files", "ref_images", "reference_image", "mask_image",
})  # fmt: skip
"""What `provider_options` may not say: the request was checked, counted and priced by them."""

UNSTREAMED = frozenset({"gif", "svg"})


def base(site: Mapping[str, str]) -> str:
    region = site.get("region", "")
    return site.get("base_url", "").rstrip("/") or f"https://{region + '.' if region else ''}api.openai.com/v1"


def caps(model: str) -> Caps | None:
    """Dated snapshots are the model whose date they bear."""
    return MODELS.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", model))


def declared(site: Mapping[str, str]) -> Caps:
    """What a model of the configuration is taken for. Raises a `Fault` for a dialect that nobody speaks."""
    name = site.get("dialect", "")
    if name and name not in DIALECTS:
        raise Fault("invalid", f"expected one of {', '.join(DIALECTS)}", param="dialect")
    return DIALECTS[name].caps if name else DECLARED


def start(job: Job) -> Step:
    dialect = DIALECTS.get(job.site.get("dialect", ""))
    if wish := job.site.get("response_format") or (dialect and dialect.respond):
        # GPT models refuse it; some other servers need it, or answer with links that nobody else can open.
        job = replace(job, options={**job.options, "response_format": wish})
    native = job.op == "variation" and job.site.get("variations") == "native"
    call = variation(job) if native else spoken(job, dialect) if dialect else sent(job, "/images")
    return replace(call, headers={name: job.site[key] for key, name in HEADERS.items() if job.site.get(key)})


def sent(job: Job, path: str, *, model: bool = True, query: Mapping[str, str] | None = None) -> Call:
    """`job` sent to `path` + "/generations" or "/edits". Without `model` where the path says it already."""
    said = fields(job)
    if not model:
        del said["model"]
    read: Literal["json", "events"] = "events" if streamed(job) else "json"
    if job.op == "generate":
        return Call(path=f"{path}/generations", query=query or {}, json=said, read=read)
    return Call(path=f"{path}/edits", query=query or {}, form=(*texts(said), *files(job)), read=read)


def streamed(job: Job) -> bool:
    """GIF and SVG are never streamed; their one answer serves as well."""
    return job.stream and job.format not in UNSTREAMED


def fields(job: Job) -> dict[str, Any]:
    """Everything of `job` but its pictures."""
    if settled := sorted(name for name in job.options if re.split(r"[\[.]", name)[0] in SETTLED):
        raise Fault(
            "invalid",
            f"'provider_options' may not hold '{settled[0]}': the request has a field of its own for it.",
            code="invalid_value",
            param=f"provider_options.{settled[0]}",
        )
    prompt = prompted(job)
    said: dict[str, Any] = {"model": job.model, "prompt": prompt, "n": job.n}
    if job.size:
        said["size"] = "{}x{}".format(*job.size)
    said |= {wire: value for name, wire in FIELDS if (value := getattr(job, name)) is not None}
    if streamed(job):
        said["stream"] = True
        if job.partials:
            said["partial_images"] = job.partials
    return said | dict(job.options)


def texts(said: Mapping[str, Any]) -> Iterator[Part]:
    """`said` as text parts, in brackets where it nests: `svg[reasoning][effort]`."""
    return chain.from_iterable(flat(name, value) for name, value in said.items())


def flat(name: str, value: object) -> Iterator[Part]:
    match value:
        case None:
            return
        case Mapping():
            for key, inner in value.items():
                yield from flat(f"{name}[{key}]", inner)
        case list() | tuple():
            for inner in value:
                yield from flat(f"{name}[]", inner)
        case bool():
            yield Part(name, "true" if value else "false")
        case _:
            yield Part(name, str(value))


def files(job: Job) -> Iterator[Part]:
    """One picture is `image`; of several each is `image[]`."""
    for image in job.images:
        yield Part("image[]" if len(job.images) > 1 else "image", image)
    if job.mask:
        yield Part("mask", job.mask)
    if job.markup:
        yield Part("markup", job.markup)


def variation(job: Job) -> Call:
    """The call that OpenAI retired with DALL·E 2: a picture and no prompt."""
    said = {name: value for name, value in fields(job).items() if name != "prompt"}
    return Call(path="/images/variations", form=(*texts(said), *files(job)))


def spoken(job: Job, dialect: Dialect) -> Call:
    """`job` in the words of a server that is like OpenAI's."""
    call = localai(job) if dialect.localai else sent(tailed(job) if dialect.tail else job, "/images")
    names = dialect.names
    form = tuple(Part(names.get(part.name, part.name), part.value) for part in call.form)
    said = call.json and {names.get(name, name): value for name, value in call.json.items()}
    return replace(call, form=form, json=said)


def localai(job: Job) -> Call:
    """Edits are generations with bare base64 in their JSON. What follows a bar in the prompt is the negative one."""
    if job.mask:
        return inpainting(job)
    if job.negative_prompt:
        job = replace(job, prompt=f"{prompted(job)}|{job.negative_prompt}", negative_prompt=None)
    pictures = [base64(image) for image in job.images]
    more = {"files": pictures} if len(pictures) > 1 else {"file": pictures[0]} if pictures else {}
    return Call(path="/images/generations", json=fields(job) | more)


def inpainting(job: Job) -> Call:
    """LocalAI's path for masks, whose answer is always a link."""
    if lost := next((name for name in ("seed", "negative_prompt") if getattr(job, name) is not None), None):
        raise Fault("invalid", f"With a mask, the server takes no '{lost}'.", code="unsupported_parameter", param=lost)
    if len(job.images) > 1:
        raise Fault("invalid", "With a mask, the server takes one picture.", code="invalid_value", param="image")
    said = {"model": job.model, "prompt": prompted(job), "steps": job.steps}
    return Call(path="/images/inpainting", form=(*texts(said), *files(job)))


def tailed(job: Job) -> Job:
    """stable-diffusion.cpp reads what OpenAI has no field for from a block in the prompt."""
    sampling = job.options.get("sample_params", {})
    if not isinstance(sampling, Mapping):
        text = "'provider_options.sample_params' must be an object."
        raise Fault("invalid", text, code="invalid_type", param="provider_options.sample_params")
    steps = {} if job.steps is None else {"sample_steps": job.steps}
    members = {"seed": job.seed, "sample_params": {**steps, **sampling} or None}
    said = {name: value for name, value in members.items() if value is not None}
    if not said:
        return job
    block = json.encode(said).decode()
    prompt = f"{prompted(job)} <sd_cpp_extra_args>{block}</sd_cpp_extra_args>"
    return replace(job, prompt=prompt, seed=None, steps=None, options={})


def step(job: Job, reply: Reply) -> Step:
    """Links of a server of one's own may be relative, or name a host that it takes for its own."""
    done = shapes.step(job, reply)
    home = job.site.get("base_url")
    if not home or not job.site.get("dialect") or not any(output.url for output in done.outputs):
        return done
    own = job.site["dialect"] == "localai"
    return replace(done, outputs=tuple(reached(output, home, own) for output in done.outputs))


def reached(output: Output, home: str, own: bool) -> Output:
    if not output.url:
        return output
    path = urlsplit(output.url)._replace(scheme="", netloc="").geturl() if own else output.url
    return replace(output, url=urljoin(home, path))


def check(reply: Reply) -> None:
    shapes.check(reply, CODES, TEXTS)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """A server of one's own may ask for no key."""
    return bearer(call, secret, stamp) if secret.key else call
