"""OpenRouter: many vendors' models behind one address, by two routes.

    POST /images            {"model", "prompt", "input_references", …}  -> {"data": [{"b64_json"}], "usage": {"cost"}}
    POST /chat/completions  the older way, on demand (`route`)          -> pictures somewhere in a message

The first also streams for models that do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from translators.base import (
    BY_STATUS,
    Blob,
    Call,
    Caps,
    Done,
    Event,
    Fault,
    FaultKind,
    Free,
    Job,
    Op,
    Output,
    Partial,
    Price,
    Provider,
    Reply,
    Step,
    Unit,
    Usage,
    by_status,
    data_url,
    prompted,
    retry_after,
)
from translators.base import bearer as sign
from translators.google import AT_1K, AT_2_5, FOURTEEN, TEN, pixels
from translators.shapes import bare, nothing, unread

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="OpenRouter",
    env={"api_key": "OPENROUTER_API_KEY"},
    settings=frozenset({"referer", "title", "route"}),
    docs="https://openrouter.ai/docs/guides/overview/multimodal/image-generation",
)
HEADERS = {"referer": "HTTP-Referer", "title": "X-OpenRouter-Title"}

# ---- what the models can do: what `GET /images/models/{id}/endpoints` is known to have listed in the autumn of 2026;
# where that is not known, as little as their vendors promise

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
USER = frozenset({"user"})
SEED = USER | {"seed"}
ROUTING = frozenset({"provider", "session_id", "trace"})
CHAT = frozenset({"modalities", "image_config", "max_tokens"})
LEVELS = ("low", "medium", "high")

OF_GPT = ("1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16", "21:9")
OF_FLUX = OF_GPT
OF_MAI = OF_GPT[:-1]
OF_SEEDREAM = ("1:1", "1:2", "2:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "9:19.5", "19.5:9",
               "9:20", "20:9", "9:21", "21:9")  # fmt: skip
OF_QWEN = ("1:1", "1:2", "1:4", "2:1", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "9:16", "16:9")
OF_GROK = ("1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1")
OF_RECRAFT = ("1:1", "2:1", "1:2", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "7:5", "5:7", "16:9", "9:16")
OF_KREA = ("1:1", "4:3", "3:2", "16:9", "4:5", "2:3", "9:16")


def each(amount: float, more: float = 0) -> tuple[Price, ...]:
    """US dollars for each picture made, and for each one sent."""
    made = (Price(unit="image", amount=amount),)
    return (*made, Price(unit="input_image", amount=more)) if more else made


def by_tier(**tiers: float) -> tuple[Price, ...]:
    """US dollars for each picture: `k2` is the resolution 2K, `p512` is 512."""
    names = {name: name[1:] + ("K" if name[0] == "k" else "") for name in tiers}
    return tuple(Price(unit="image", amount=amount, resolution=names[name]) for name, amount in tiers.items())


def tokens(text: float, image: float, made: float) -> tuple[Price, ...]:
    """US dollars for a million tokens: text in, pictures in, pictures out."""
    units: tuple[tuple[Unit, float], ...] = (
        ("token.text.in", text),
        ("token.image.in", image),
        ("token.image.out", made),
    )
    return tuple(Price(unit=unit, amount=amount, per=1_000_000) for unit, amount in units)


DECLARED = Caps(
    ops=MAKES,
    ratios=OF_MAI,
    max_images=16,
    qualities=LEVELS,
    params=USER,
    options=ROUTING | CHAT | {"route"},
    note="Not among the models that this release knows: asked for what most take.",
)
"""What any other `author/slug` is taken for. A ratio is clamped, a quality ignored where a model has none."""

GPT_2 = replace(
    DECLARED,
    max_n=10,
    ratios=OF_GPT,
    free=Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3),
    backgrounds=("opaque", "auto"),
    streams=True,
    params=USER | {"moderation"},
    prices=tokens(5, 8, 30),
    tokens="gpt-image-2",
    note=None,
)
GPT_25 = replace(
    GPT_2, qualities=(*LEVELS, "xhigh", "max"), backgrounds=("transparent", "opaque", "auto"), tokens="gpt-image-2.5"
)
GPT_1 = replace(
    GPT_2,
    free=None,
    ratios=OF_GPT[:3],
    backgrounds=("transparent", "opaque", "auto"),
    prices=tokens(5, 10, 40),
    tokens="gpt-image-1",
    note="OpenAI itself has shut it down: expect it to vanish.",
)
GPT_CHAT = replace(GPT_2, max_n=1, free=None, ratios=(), backgrounds=(), params=USER, prices=())
GEMINI = replace(
    DECLARED,
    ratios=FOURTEEN,
    resolutions=("1K", "2K", "4K"),
    pixels_of=pixels(AT_1K, FOURTEEN, ("1K", "2K", "4K")),
    max_images=14,
    qualities=(),
    note=None,
)
SEEDREAM = replace(
    DECLARED,
    max_n=10,
    ratios=OF_SEEDREAM,
    resolutions=("1K", "2K"),
    max_images=10,
    qualities=(),
    params=SEED,
    note=None,
)
FLUX_2 = replace(DECLARED, ratios=OF_FLUX, max_images=8, qualities=(), formats=("png", "jpeg"), params=SEED, note=None)
QWEN = replace(
    DECLARED, max_n=6, ratios=OF_QWEN, resolutions=("1K", "2K"), max_images=4, qualities=(), params=SEED, note=None
)
RECRAFT = replace(DECLARED, ratios=OF_RECRAFT, max_images=1, qualities=(), note=None)
GROK = replace(DECLARED, ratios=OF_GROK, resolutions=("1K", "2K"), max_images=3, qualities=("low", "medium"), note=None)

MODELS: Mapping[str, Caps] = {
    "openai/gpt-image-2.5-sunburst": GPT_25,
    "openai/gpt-image-2.5-flare": GPT_25,
    "openai/gpt-image-2": GPT_2,
    "openai/gpt-image-1": GPT_1,
    "openai/gpt-image-1-mini": replace(GPT_1, prices=tokens(2, 2.5, 8), ends="2026-12-01", note=None),
    "openai/gpt-5.4-image-2": GPT_CHAT,
    "openai/gpt-5-image": GPT_CHAT,
    "openai/gpt-5-image-mini": GPT_CHAT,
    "google/gemini-nano-banana-2.1": GEMINI,
    "google/gemini-3.1-flash-image": replace(
        GEMINI,
        resolutions=("512", "1K", "2K", "4K"),
        pixels_of=pixels(AT_1K, FOURTEEN, ("512", "1K", "2K", "4K")),
        prices=by_tier(p512=0.045, k1=0.0672, k2=0.1008, k4=0.1512),
    ),
    "google/gemini-3.1-flash-lite-image": replace(
        GEMINI, resolutions=("1K",), pixels_of=pixels(AT_1K, FOURTEEN, ("1K",))
    ),
    "google/gemini-3-pro-image": replace(
        GEMINI,
        ratios=TEN,
        pixels_of=pixels(AT_1K, TEN, ("1K", "2K", "4K")),
        prices=by_tier(k1=0.134, k2=0.134, k4=0.24),
    ),
    "google/gemini-2.5-flash-image": replace(
        GEMINI, ratios=TEN, resolutions=(), pixels_of=AT_2_5, max_images=3,
        note="Google itself has shut it down: expect it to vanish.",
    ),
    "bytedance-seed/seedream-5-5": replace(  # "from 0.02" here (2026-11-12); the rest is its maker's list, passed on
        SEEDREAM,
        prices=(
            Price(unit="image", amount=0.02, pixels=(0, 2_601_124)),
            Price(unit="image", amount=0.035, pixels=(2_601_124, 0)),
            Price(unit="input_image", amount=0.008),
        ),
    ),
    "bytedance-seed/seedream-5-0-pro": replace(
        SEEDREAM, prices=(*by_tier(k1=0.045, k2=0.09), Price(unit="input_image", amount=0.003))
    ),
    "bytedance-seed/seedream-5-0-flash": replace(SEEDREAM, prices=each(0.018)),
    "bytedance-seed/seedream-5-0-lite": replace(SEEDREAM, resolutions=("2K", "4K"), max_images=14),
    "bytedance-seed/seedream-4.5": replace(
        SEEDREAM, resolutions=("1K", "2K", "4K"), max_images=14, prices=each(0.04)
    ),
    "black-forest-labs/flux.2-pro": replace(
        FLUX_2, params=SEED | {"steps", "guidance"}, prices=(Price(unit="megapixel", amount=0.03),)
    ),
    "black-forest-labs/flux.2-klein-4b": replace(
        FLUX_2, max_images=4, prices=(Price(unit="megapixel", amount=0.014),)
    ),
    "black-forest-labs/flux-3-image": replace(
        FLUX_2, resolutions=("768", "1K", "1.5K", "2K", "4K"), max_images=10, formats=(), params=USER
    ),
    "qwen/qwen-image-3-pro": QWEN,
    "qwen/qwen-image-3": replace(QWEN, prices=each(0.03, 0.003)),
    "recraft/recraft-v4.1-pro": replace(RECRAFT, prices=each(0.21)),
    "recraft/recraft-v4": replace(RECRAFT, prices=each(0.04)),
    "microsoft/mai-image-2.6": replace(
        DECLARED, ratios=OF_MAI, max_images=5, qualities=(), prices=each(0.04), note="The price is about right."
    ),
    "x-ai/grok-imagine-image-2.0": GROK,
    "x-ai/grok-imagine-image-quality": replace(GROK, qualities=(), prices=each(0.05)),
    "meta/muse-image": replace(DECLARED, max_images=10, qualities=(), note=None),
    "krea/krea-2-large": replace(
        DECLARED, ratios=OF_KREA, resolutions=("1K",), max_images=1, qualities=(), params=SEED, note=None
    ),
}  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/") or "https://openrouter.ai/api/v1"


def caps(model: str) -> Caps | None:
    """A dated form is the model whose date it bears."""
    known = MODELS.get(model) or MODELS.get(re.sub(r"-20\d{6}$", "", model))
    return known or (DECLARED if re.fullmatch(r"[\w.~-]+/[\w.:-]+", model) else None)


# ---- what is sent

FIELDS = {
    "ratio": "aspect_ratio",
    "resolution": "resolution",
    "quality": "quality",
    "format": "output_format",
    "background": "background",
    "seed": "seed",
    "user": "user",
}
"""Field of `Job` -> its name on the images route."""
NATIVE = ("moderation", "steps", "guidance")
"""Fields of `Job` that only the vendor knows, by their name there; its slug is the author's."""
ROUTES = ("images", "chat")
BOTH = ("google/", "openai/gpt-5")
"""Models that write as well as draw. One that only draws is not found when it is asked for text."""


def start(job: Job) -> Step:
    route = job.options.get("route") or job.site.get("route") or ROUTES[0]
    if route not in ROUTES:
        raise refusal("provider_options.route", f"'route' is '{route}'; it may be 'images' or 'chat'.")
    options = {name: value for name, value in job.options.items() if name != "route"}
    if provider := routed(job):
        options["provider"] = provider
    headers = {name: job.site[key] for key, name in HEADERS.items() if job.site.get(key)}
    job = replace(job, options=options, prompt=prompted(job))
    return replace(chat(job) if route == "chat" else images(job), headers=headers)


def routed(job: Job) -> Mapping[str, Any]:
    """The `provider` object: the client's own, and in it what only the vendor knows."""
    said = mapping("provider", job.options.get("provider"))
    native = {name: value for name in NATIVE if (value := getattr(job, name)) is not None}
    if not native:
        return said
    slug = job.model.partition("/")[0]
    options = mapping("provider.options", said.get("options"))
    return {**said, "options": {**options, slug: native | mapping(f"provider.options.{slug}", options.get(slug))}}


def images(job: Job) -> Call:
    if misplaced := sorted(CHAT & job.options.keys()):
        name = f"provider_options.{misplaced[0]}"
        raise refusal(name, f'\'{name}\' is only for the chat route; add "route": "chat" beside it, or leave it out.')
    said: dict[str, Any] = {"model": job.model, "prompt": job.prompt}
    if job.n > 1:  # models that make one refuse even the word
        said["n"] = job.n
    if job.size:  # then neither ratio nor resolution: a mismatch is refused
        said["size"] = "{}x{}".format(*job.size)
    said |= {wire: value for name, wire in FIELDS.items() if (value := getattr(job, name)) is not None}
    if job.images:
        said["input_references"] = [linked(image) for image in map(data_url, job.images)]
    if job.stream:
        said["stream"] = True
    return Call(path="/images", json=said | dict(job.options), read="events" if job.stream else "json")


def chat(job: Job) -> Call:
    """Says less than the images route: what it cannot say and would change the picture is refused."""
    unsaid = {"n": job.n > 1, "quality": job.quality, "background": job.background, "size": job.size}
    if lost := next((name for name, value in unsaid.items() if value), None):
        raise refusal(lost, f'The chat route has no \'{lost}\'; leave it out, or leave out "route": "chat".')
    config = {"aspect_ratio": job.ratio, "image_size": job.resolution} | mapping(
        "image_config", job.options.get("image_config")
    )
    config = {name: value for name, value in config.items() if value is not None}
    both = job.model.startswith(BOTH) or caps(job.model) is DECLARED
    content = [{"type": "text", "text": job.prompt}, *map(linked, map(data_url, job.images))]
    said: dict[str, Any] = {
        "model": job.model,
        "messages": [{"role": "user", "content": content}],
        "modalities": ["image", "text"] if both else ["image"],
    }
    said |= {name: value for name in ("seed", "user") if (value := getattr(job, name)) is not None}
    said |= dict(job.options)
    return Call(path="/chat/completions", json=said | ({"image_config": config} if config else {}))


def mapping(name: str, value: object) -> dict[str, Any]:
    """An object among `provider_options`; where there is none, an empty one."""
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    raise refusal(f"provider_options.{name}", f"'provider_options.{name}' must be an object.")


def linked(url: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def refusal(param: str, message: str) -> Fault:
    return Fault("invalid", message, code="invalid_value", param=param)


# ---- what comes back


class Made(msgspec.Struct, frozen=True):
    """One of `data`; or an event, which holds the same."""

    b64_json: str | None = None
    type: str | None = None
    partial_image_index: int = 0
    usage: Any = None  # a `Count`


class Link(msgspec.Struct, frozen=True):
    url: str = ""


class Piece(msgspec.Struct, frozen=True):
    """A part of a message's content, or one of its `images`."""

    text: str | None = None
    image_url: Link | str | None = None


class Message(msgspec.Struct, frozen=True):
    content: str | tuple[Piece, ...] | None = None
    images: tuple[Piece, ...] | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    message: Message = Message()
    finish_reason: str | None = None
    native_finish_reason: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer of either route."""

    data: tuple[Made, ...] | None = None
    choices: tuple[Choice, ...] | None = None
    usage: Any = None  # a `Count`


class Details(msgspec.Struct, frozen=True):
    image_tokens: int | None = None


class Count(msgspec.Struct, frozen=True):
    """`usage`. Of what goes in, text and pictures are not told apart."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: Details | None = None
    cost: float | None = None


def step(job: Job, reply: Reply) -> Step:
    answer = reply.read(Answer)
    outputs = [Output(blob=bare(reply.blob(made.b64_json))) for made in answer.data or () if made.b64_json]
    for choice in answer.choices or ():
        outputs += drawn(choice.message, reply)
    if not outputs:
        fault = undrawn(answer.choices or ())
        fault.usage = counted(answer.usage)  # a conversation is paid for, whatever it brings
        raise fault
    short = Fault("empty", f"The provider made {len(outputs)} of {job.n} pictures.", code="no_image")
    faults = (short,) * (job.n - len(outputs))  # `n` is an upper bound there
    return Done(outputs=tuple(outputs), usage=counted(answer.usage), faults=faults)


def event(job: Job, reply: Reply) -> Iterator[Event]:
    """One event. Other kinds, text among them, are no pictures."""
    if reply.data.strip() == b"[DONE]":
        return
    made = reply.read(Made)
    kind = made.type or reply.event
    if not kind.endswith((".partial_image", ".completed")):
        return
    if not made.b64_json:
        raise nothing()
    output = Output(blob=bare(reply.blob(made.b64_json)))
    if kind.endswith(".partial_image"):
        yield Partial(made.partial_image_index, output)
    else:
        yield Done(outputs=(output,), usage=counted(made.usage))


def drawn(message: Message, reply: Reply) -> list[Output]:
    """A message's pictures: beside its content, in its parts, or in its text. The first such place that has any
    counts, for a later one may show the same again."""
    parts = message.content if isinstance(message.content, tuple) else ()
    texts = [message.content] if isinstance(message.content, str) else [part.text for part in parts if part.text]
    return (
        [output for part in message.images or () for output in addressed(part, reply)]
        or [output for part in parts for output in addressed(part, reply)]
        or [output for text in texts for output in written(text, reply)]
    )


def addressed(part: Piece, reply: Reply) -> Iterator[Output]:
    """The picture that a part names."""
    url = part.image_url.url if isinstance(part.image_url, Link) else part.image_url
    if not url:
        return
    if url in reply.lifted or url.startswith("data:image/"):
        yield Output(blob=bare(reply.blob(url)))
    elif url.startswith(("http://", "https://")):
        yield Output(url=url)


MARKDOWN = re.compile(r"!\[[^\]]*\]\(\s*<?(https?://[^\s)>]+)")


def written(text: str, reply: Reply) -> Iterator[Output]:
    """The pictures within a text, wherever in it; text that was lifted is searched as it lies."""
    yield from (Output(blob=blob) for blob in data_urls(reply.blob(text)))
    yield from (Output(url=url) for url in MARKDOWN.findall(text))


DATA = re.compile(rb"data:image/[\w.+-]{1,40}(?:;[\w=.-]{1,40})?;base64,")
OVERLAP = 120  # bytes: more than the longest such beginning
AFTER = re.compile(rb"[^A-Za-z0-9+/=]")


def data_urls(text: Blob) -> Iterator[Blob]:
    """The base64 of each `data:` URL in `text`: pieces of its chunks, never joined."""
    found: list[bytes] | None = None  # the open URL's pieces
    rest = b""  # the end of what was searched, in which one may have begun
    for chunk in text.chunks:
        piece, rest = rest + chunk, b""
        while piece:
            if found is None:
                if not (begin := DATA.search(piece)):
                    rest = piece[-OVERLAP:]
                    break
                found, piece = [], piece[begin.end() :]
            end = AFTER.search(piece)
            found.append(piece[: end.start()] if end else piece)
            piece = piece[end.start() :] if end else b""
            if end:
                yield from gathered(found)
                found = None
    yield from gathered(found or [])


def gathered(pieces: list[bytes]) -> Iterator[Blob]:
    if size := sum(map(len, pieces)):
        yield Blob(tuple(filter(None, pieces)), size, "base64")


def counted(usage: object) -> Usage:
    """Where it is not said what of the output was pictures, all of it was."""
    try:
        count = msgspec.convert(usage or {}, Count)
    except msgspec.ValidationError:
        return Usage()
    image = (count.completion_tokens_details or Details()).image_tokens
    made = count.completion_tokens
    return Usage(
        input_text=count.prompt_tokens,
        output_image=made if image is None else image,
        output_text=made - image if made is not None and image is not None and made > image else None,
        cost_usd=count.cost,
    )


# ---- what went wrong

KINDS: Mapping[str, FaultKind] = {
    "authentication": "auth",
    "permission_denied": "permission",
    "payment_required": "quota",
    "rate_limit_exceeded": "rate",
    "invalid_request": "invalid",
    "invalid_prompt": "invalid",
    "unprocessable": "invalid",
    "precondition_failed": "invalid",
    "payload_too_large": "invalid",
    "string_too_long": "invalid",
    "context_length_exceeded": "invalid",
    "max_tokens_exceeded": "invalid",
    "token_limit_exceeded": "invalid",
    "invalid_image": "invalid",
    "image_too_large": "invalid",
    "image_too_small": "invalid",
    "unsupported_image_format": "invalid",
    "image_not_found": "invalid",
    "image_download_failed": "invalid",
    "content_policy_violation": "policy",
    "refusal": "policy",
    "not_found": "missing",
    "provider_overloaded": "overloaded",
    "provider_unavailable": "overloaded",
    "server": "upstream",
    "timeout": "timeout",
    "unmapped": "upstream",
}
VAGUE = frozenset({"", "unmapped", "invalid_request"})  # behind these a refusal may hide
FILTERED = re.compile(
    r"content[ _]?(?:moderation|policy|filter)|moderation[ _](?:blocked|system|filter)|safety (?:system|filter|polic)"
    r"|usage polic|prohibited[ _]content|sensitive[ _]?content|request moderated|\bflagged\b",
    re.IGNORECASE,
)
BLOCKED = frozenset({
    "content_filter", "safety", "image_safety", "prohibited_content", "image_prohibited_content", "blocklist", "spii",
    "recitation", "image_recitation",
})  # fmt: skip
"""Reasons to end that mean a refusal, in lower case."""


class Metadata(msgspec.Struct, frozen=True):
    """What is known beyond the status. Of `Any` type is what vendors fill."""

    error_type: str | None = None
    provider_name: str | None = None
    reasons: Any = None
    raw: Any = None
    block_reason: Any = None
    finish_reason: Any = None


class Problem(msgspec.Struct, frozen=True):
    code: int | str | None = None  # the status; in a stream a word
    message: str | None = None
    param: str | None = None
    metadata: Metadata | None = None


class Broken(msgspec.Struct, frozen=True):
    """A choice that failed."""

    error: Problem | None = None


class Failure(msgspec.Struct, frozen=True):
    """An answer or event that may be a failure, with whatever status."""

    error: Problem | None = None
    choices: tuple[Broken, ...] | None = None


def check(reply: Reply) -> None:
    try:
        answer = reply.read(Failure)
    except Fault:
        by_status(reply, unread(reply))
        if reply.data.strip() == b"[DONE]":
            return
        raise
    problem = answer.error or next((choice.error for choice in answer.choices or () if choice.error), None)
    if problem:
        raise fault(problem, reply)
    by_status(reply, unread(reply))


def fault(problem: Problem, reply: Reply) -> Fault:
    meta = problem.metadata or Metadata()
    word = problem.code if isinstance(problem.code, str) and not problem.code.isdigit() else None
    message = told(problem, meta) or unread(reply)
    kind = kind_of(problem, meta, word, message, reply.status)
    code = meta.error_type or word
    if kind == "policy":
        code = "content_policy_violation" if code == "content_policy_violation" else "moderation_blocked"
    begun = reply.status < 400  # it may have been worked on: not to be tried again
    return Fault(kind, message, code=code, param=problem.param, retry_after=retry_after(reply), final=begun)


def kind_of(problem: Problem, meta: Metadata, word: str | None, message: str, status: int) -> FaultKind:
    """By the type, then by signs of a refusal, then by the status: the body's own before the reply's."""
    name = meta.error_type or word or ""
    if name in KINDS and name not in VAGUE:
        return KINDS[name]
    if meta.block_reason or str(meta.finish_reason).lower() in BLOCKED or FILTERED.search(message):
        return "policy"
    if name in KINDS:
        return KINDS[name]
    if problem.code is not None and word is None:
        status = int(problem.code)
    return BY_STATUS.get(status, "invalid" if 400 <= status < 500 else "upstream")


def told(problem: Problem, meta: Metadata) -> str:
    """OpenRouter's words, and the vendor's behind them: its own are often "Provider returned error"."""
    reasons = ", ".join(map(str, meta.reasons)) if isinstance(meta.reasons, list) else ""
    raw = meta.raw if isinstance(meta.raw, str) else msgspec.json.encode(meta.raw).decode() if meta.raw else ""
    parts = [problem.message or "", reasons and f"({reasons})", raw[:500] if raw != problem.message else ""]
    return " ".join(filter(None, parts))


def undrawn(choices: tuple[Choice, ...]) -> Fault:
    """Why a conversation has no picture."""
    for choice in choices:
        said = choice.message.refusal or ""
        reason = choice.native_finish_reason or choice.finish_reason or ""
        if said or {reason.lower(), str(choice.finish_reason).lower()} & BLOCKED:
            return Fault("policy", said or f"The provider refused: {reason}.", code="moderation_blocked")
        if isinstance(choice.message.content, str) and choice.message.content.strip():
            text = choice.message.content.strip()[:200]
            return Fault("empty", f"The provider answered in words, without a picture: {text}", code="no_image")
    return nothing()
