"""What becomes of each field of a request at one model: `(Ask, Caps) -> Decision`. Pure.

Every field meets one of three ends. It is *converted* to what the model understands (sent as it is where nothing had
to be changed), it is *noted*: left out and named, or it is *refused*, where leaving it out would change what the
picture means. `DECISIONS` lists who decides over which field; each is a small function of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from proxy import invalid, sizes
from proxy.ask import Ask, Inputs
from proxy.catalog import Target
from proxy.providers import AnyCaps
from proxy.video.ask import VideoAsk
from translators.base import Caps, Fault


class Note(msgspec.Struct, frozen=True):
    """One thing that the answer differs in from the wish; named in `x-pictor-adjusted`."""

    param: str
    action: Literal["converted", "noted"]
    text: str  # "size 1024x1024 -> 2048x2048"


class Decision(msgspec.Struct, frozen=True):
    """Members of the `Job` and of the `Finish` to set, and what there is to say about it."""

    job: Mapping[str, Any] = {}
    finish: Mapping[str, Any] = {}
    notes: tuple[Note, ...] = ()


Decide: TypeAlias = Callable[[Ask, Caps], Decision]

NOTHING = Decision()


def converted(param: str, said: object, got: object) -> Note:
    """A note that one value became another of nearly the same meaning."""
    return Note(param, "converted", f"{param} {said} -> {got}")


def left_out(param: str, why: str = "left out") -> Note:
    """A note that the model knows no such thing."""
    return Note(param, "noted", f"{param} {why}")


LACKS = {
    "generate": "does not make images from text alone; it needs an image",
    "edit": "does not support image edits, or references",
    "variation": "does not make variations",
}


def check_operation(ask: Ask, caps: Caps) -> None:
    """Refuse what the model does not do at all."""
    if ask.op not in caps.ops:
        model = f"The model '{invalid.clip(ask.model)}'" if ask.model else "This model"
        raise invalid.invalid_value("model", f"{model} {LACKS[ask.op]}.")


def decide_prompt(ask: Ask, caps: Caps) -> Decision:
    """Required, as OpenAI does, but where the model reads none."""
    prompt = ask.prompt
    if not caps.prompt_chars:
        return Decision(notes=(left_out("prompt"),)) if prompt else NOTHING
    if not prompt and ask.op != "variation":
        raise invalid.missing("prompt")
    if len(prompt) > caps.prompt_chars:
        raise invalid.too_long("prompt", caps.prompt_chars, len(prompt))
    return Decision({"prompt": prompt})


def decide_size(ask: Ask, caps: Caps) -> Decision:
    """The nearest that the model can make; what is further off than `sizes.CLOSE` is noted."""
    if ask.size is None and ask.aspect_ratio is None and ask.resolution is None:
        return NOTHING if caps.auto_size else Decision(_set(sizes.choose(sizes.NO_WISH, caps)))
    wish = read_wish(ask)
    choice = sizes.choose(wish, caps)
    if caps.keeps and keeps_shape(ask, caps):
        left = tuple(
            left_out(param, f"{said} left out: the picture keeps its own shape")
            for param in ("size", "aspect_ratio", *(() if choice.resolution else ("resolution",)))
            if (said := getattr(ask, param)) not in {None, "auto"}
        )
        return Decision({"resolution": choice.resolution}, notes=left)
    notes = []
    for param in ("size", "aspect_ratio", "resolution"):
        said = getattr(ask, param)
        if said is not None and (note := _size_note(param, said, choice, caps)):
            notes.append(note)
    return Decision(_set(choice), notes=tuple(notes))


def keeps_shape(ask: Ask, caps: Caps) -> bool:
    """Whether the picture that came along decides the shape of what is made."""
    return bool(ask.images) and (
        ask.op in caps.keeps
        or ("mask" in caps.keeps and ask.mask is not None)
        or ("single" in caps.keeps and len(ask.images) == 1)
    )


def read_wish(ask: Ask) -> sizes.Wish:
    """What was said of the size, once it does not contradict itself."""
    size = sizes.parse_size(ask.size) if ask.size else None
    tier = ask.size if ask.size and ask.size != "auto" and not size else None  # "2K", as some providers write it
    ratio = ask.aspect_ratio if ask.aspect_ratio != "auto" else None
    resolution = ask.resolution if ask.resolution != "auto" else None
    if size and ratio and sizes.off(size[0] / size[1], sizes.parse_ratio(ratio) or 1) > sizes.CLOSE:
        raise _contradiction("aspect_ratio", ask.size, ratio)
    edge = sizes.parse_resolution(resolution) if resolution else None
    edge_said = sizes.edge_of(size) if size else sizes.parse_resolution(tier) if tier else None
    if edge and edge_said and sizes.off(edge, edge_said) >= 0.5:
        raise _contradiction("resolution", ask.size, resolution)
    return sizes.Wish(size, ratio, resolution or tier)


def _contradiction(param: str, size: str | None, other: str | None) -> Fault:
    text = f"'size' {size} and '{param}' {other} contradict each other. Give one of them."
    return invalid.invalid_value(param, text)


def _set(choice: sizes.Choice) -> dict[str, Any]:
    return {"size": choice.size, "ratio": choice.ratio, "resolution": choice.resolution}


def _size_note(param: str, said: str, choice: sizes.Choice, caps: Caps) -> Note | None:
    """By how much `choice` misses what was said in `param`; `None` where it does not."""
    pixels = sizes.pixels_of(choice, caps)
    if said == "auto":
        return None if param != "size" or choice == sizes.NOTHING or caps.auto_size else _sized(param, said, 0, choice)
    if param == "size" and (size := sizes.parse_size(said)):
        if pixels == size:
            return None
        ratio = sizes.ratio_of(choice)
        return _sized(param, said, sizes.off(size[0] / size[1], ratio) if ratio else None, choice)
    if param == "aspect_ratio":
        ratio = sizes.ratio_of(choice)
        miss = sizes.off(sizes.parse_ratio(said) or 1, ratio) if ratio else None
        return None if miss is not None and miss < 0.005 else _sized(param, said, miss, choice)
    edge = sizes.edge_of(pixels) if pixels else sizes.parse_resolution(choice.resolution or "")
    wanted = sizes.parse_resolution(said)
    if (choice.resolution or "").casefold() == said.casefold() or (edge and wanted and sizes.off(edge, wanted) < 0.05):
        return None
    near = edge and wanted and sizes.off(edge, wanted) < 0.45  # less than half the way to the next resolution
    return _sized(param, said, 0 if near else None, choice)


def _sized(param: str, said: str, miss: float | None, choice: sizes.Choice) -> Note:
    words = [word for word in (choice.ratio, choice.resolution) if word]
    got = sizes.shown(choice.size) if choice.size else " at ".join(words) or "the model's own"
    close = miss is not None and miss <= sizes.CLOSE
    return Note(param, "converted" if close else "noted", f"{param} {said} -> {got}")


LADDER = {"low": 1, "standard": 2, "medium": 2, "high": 3, "hd": 3, "xhigh": 4, "max": 5}
"""OpenAI's qualities, those of its old models among them, by their height."""


def decide_quality(ask: Ask, caps: Caps) -> Decision:
    """The same, or the highest below it."""
    said = ask.quality
    if said is None or said == "auto":
        return NOTHING
    known = tuple(quality for quality in caps.qualities if quality != "auto")
    if said in known:
        return Decision({"quality": said})
    if said not in LADDER:
        raise invalid.unsupported_value("quality", said, dict.fromkeys(("auto", *known, *LADDER)))
    if not known:
        return Decision(notes=(left_out("quality", f"{said} left out"),))
    got = _nearest_quality(LADDER[said], known)
    return Decision({"quality": got}, notes=(converted("quality", said, got),))


def _nearest_quality(rank: int, known: tuple[str, ...]) -> str:
    if all(quality in LADDER for quality in known):
        below = [quality for quality in known if LADDER[quality] <= rank]
        return below[-1] if below else known[0]
    place = (min(rank, 3) - 1) * (len(known) - 1) // 2  # words of the model's own: lowest, middle, highest
    return known[place]


def decide_background(ask: Ask, caps: Caps) -> Decision:
    """Transparency is given or refused. A model that knows no backgrounds paints opaque ones."""
    said = ask.background
    if said == "transparent":
        if ask.output_format not in {None, "png", "webp"}:
            text = f"Transparent background is not supported for {(ask.output_format or '').upper()} output format"
            raise invalid.invalid_value("background", text)
        if said not in caps.backgrounds:
            raise invalid.invalid_value("background", "Transparent background is not supported for this model.")
    if said is None or said not in caps.backgrounds:
        return NOTHING
    return Decision({"background": said})


TRANSCODED = frozenset({"png", "jpeg", "webp"})
UNPAINTED = frozenset({"gif", "svg"})  # no raster picture that a stream, a compression or a transcode could work on


def decide_format(ask: Ask, caps: Caps) -> Decision:
    """Asked of the model where it can be, made by us where not."""
    said = ask.output_format
    if said is None:
        if ask.background != "transparent":
            return NOTHING
        said = "png"  # a model's own default may be JPEG
    if said in UNPAINTED:
        if said not in caps.formats:
            raise invalid.unsupported_value("output_format", said, sorted(TRANSCODED | set(caps.formats)))
        return Decision({"format": said})
    if said in caps.formats:
        return Decision({"format": said}, {"format": said})
    lossless = ask.background == "transparent" and "png" in caps.formats
    return Decision({"format": "png"} if lossless else {}, {"format": said})


def decide_compression(ask: Ask, caps: Caps) -> Decision:
    """On the wire where the model takes it with this format, otherwise by our own transcoding."""
    said = ask.output_compression
    if said is None:
        return NOTHING
    if ask.output_format not in {"jpeg", "webp"}:
        if said == 100 and ask.output_format not in UNPAINTED:
            return NOTHING
        name = (ask.output_format or "png").upper()
        text = f"Compression less than 100 is not supported for {name} output format"
        raise invalid.invalid_value("output_compression", text)
    if caps.compression and ask.output_format in caps.formats:
        return Decision({"compression": said})
    return Decision(finish={"compression": said})


def decide_frames(ask: Ask, caps: Caps) -> Decision:
    """What belongs to GIF and SVG alone."""
    said = {"frame_count": ask.frame_count, "frame_duration_ms": ask.frame_duration_ms, "svg": ask.svg}
    if ask.output_format not in UNPAINTED and not any(value is not None for value in said.values()):
        return NOTHING
    for param, value in said.items():
        needed = "svg" if param == "svg" else "gif"
        if value is not None and ask.output_format != needed:
            raise invalid.invalid_value(param, f"'{param}' is only supported with output_format '{needed}'.")
    if ask.stream or ask.partial_images:
        raise invalid.invalid_value("stream", f"Streaming is not supported for output_format '{ask.output_format}'.")
    if ask.output_format == "svg" and ask.n > 1:
        raise invalid.invalid_value("n", f"With output_format 'svg', 'n' must be 1, but got {ask.n}.")
    return passed(said, caps)


def decide_stream(ask: Ask, caps: Caps) -> Decision:
    """Real events where the model sends them; elsewhere the answer is one completed event for each picture."""
    partials = ask.partial_images
    if not ask.stream:
        return Decision(notes=(left_out("partial_images", "left out without stream"),)) if partials else NOTHING
    can = caps.partials if caps.streams else 0
    notes = (Note("partial_images", "noted", f"partial_images {partials} -> {can}"),) if partials > can else ()
    return Decision({"stream": caps.streams, "partials": min(partials, can)}, notes=notes)


def decide_user(ask: Ask | VideoAsk, caps: AnyCaps) -> Decision:
    """The identifier that wins goes under the name that the model knows."""
    if not ask.user and not ask.safety_identifier:
        return NOTHING
    param = "safety_identifier" if ask.safety_identifier else "user"
    value = ask.safety_identifier or ask.user
    if param in caps.params:
        return Decision({param: value})
    other = "user" if param == "safety_identifier" else "safety_identifier"
    if other in caps.params:
        return Decision({other: value}, notes=(Note(param, "converted", f"{param} sent as {other}"),))
    return Decision(notes=(left_out(param),))


LEGACY = frozenset({"dall-e-2", "dall-e-3"})  # whose clients expect a `url` where they say nothing


def decide_answer(ask: Ask, caps: Caps) -> Decision:  # noqa: ARG001 - one signature for all decisions
    """How pictures are handed over is our affair alone: the model never hears of it."""
    said = ask.response_format
    if said == "url" and ask.stream:
        return Decision(notes=(Note("response_format", "noted", "response_format url -> b64_json in a stream"),))
    if said is None and not ask.stream and ask.model and ask.model.rpartition("/")[2] in LEGACY:
        said = "url"
    return Decision(finish={"respond": said}) if said == "url" else NOTHING


def decide_style(ask: Ask, caps: Caps) -> Decision:
    """DALL-E's two words are left out where the model knows no styles; a style of another name is not."""
    if ask.style is None:
        return NOTHING
    if "style" not in caps.params and ask.style not in {"vivid", "natural"}:
        raise invalid.unsupported_value("style", ask.style, ("vivid", "natural"))
    return passed({"style": ask.style}, caps)


def decide_loras(ask: Ask, caps: Caps) -> Decision:
    """A picture without them would be another one."""
    if not ask.loras:
        return NOTHING
    if "loras" not in caps.params:
        raise invalid.invalid_value("loras", "This model does not take LoRAs.")
    return Decision({"loras": ask.loras})


def decide_rest(ask: Ask, caps: Caps) -> Decision:
    """What a model takes or leaves."""
    said = {param: value for param in REST if (value := getattr(ask, param)) is not None}
    if not said:
        return NOTHING
    if said.get("moderation") == "auto" and "moderation" not in caps.params:
        del said["moderation"]  # the provider's own moderation is what "auto" means
    if "input_fidelity" in said and ask.op == "generate":
        del said["input_fidelity"]
        rest = passed(said, caps)
        return replace(rest, notes=(*rest.notes, left_out("input_fidelity", "left out without an image")))
    return passed(said, caps)


REST = (
    "moderation", "complexity", "input_fidelity", "negative_prompt", "seed", "steps", "guidance", "watermark",
)  # fmt: skip
IN_JOB = {"input_fidelity": "fidelity"}  # where a `Job` has another name for it


def passed(said: Mapping[str, Any], caps: AnyCaps) -> Decision:
    """Send those of `said` that the model takes, and name the others."""
    job: dict[str, Any] = {}
    notes: list[Note] = []
    for param, value in said.items():
        name = IN_JOB.get(param, param)
        if value is None:
            continue
        if name in caps.params:
            job[name] = value
        else:
            notes.append(left_out(param))
    return Decision(job, notes=tuple(notes))


DECISIONS: tuple[tuple[tuple[str, ...], Decide], ...] = (
    (("prompt",), decide_prompt),
    (("size", "aspect_ratio", "resolution"), decide_size),
    (("quality",), decide_quality),
    (("background",), decide_background),
    (("output_format",), decide_format),
    (("output_compression",), decide_compression),
    (("frame_count", "frame_duration_ms", "svg"), decide_frames),
    (("stream", "partial_images"), decide_stream),
    (("user", "safety_identifier"), decide_user),
    (("response_format",), decide_answer),
    (("style",), decide_style),
    (("loras",), decide_loras),
    (REST, decide_rest),
)
ELSEWHERE: Mapping[str, str] = {
    "op": "check_operation", "model": "the route to the target", "n": "split", "images": "decide_pictures",
    "mask": "decide_pictures", "markup": "decide_pictures", "provider_options": "decide_options",
    "metadata": "written to the log with the request", "webhook_url": "told when it has ended",
}  # fmt: skip
"""Fields whose decision needs more than the request and the model's abilities."""


def decide_pictures(ask: Ask, inputs: Inputs, caps: Caps) -> Decision:
    """As many pictures as the model takes, and a mask or a markup only where it uses it."""
    if ask.op == "generate":
        return NOTHING
    param = ask.images[0].param.partition("[")[0] if ask.images else "image"
    count, least, most = len(inputs.images), max(caps.min_images, 1), max(caps.max_images, 1)
    if not count:
        raise invalid.missing(param)
    if count < least:
        raise invalid.too_few(param, least, count)
    if count > most:
        raise invalid.too_many(param, most, count)
    check_mask(ask, inputs, caps)
    return Decision({"images": inputs.images, "mask": inputs.mask, "markup": inputs.markup})


def check_mask(ask: Ask, inputs: Inputs, caps: Caps) -> None:
    """Refuse a mask or a markup that would be ignored, and the lack of one that is needed."""
    if inputs.mask is not None:
        if caps.mask == "none":
            raise invalid.invalid_value("mask", "A mask is not supported for this model.")
        if inputs.markup is not None:
            raise invalid.invalid_value("markup", "'markup' cannot be used together with 'mask'.")
        if ask.output_format == "gif":
            raise invalid.invalid_value("mask", "A mask is not supported for output_format 'gif'.")
    elif caps.mask_required and ask.op == "edit":
        raise invalid.missing("mask")
    if inputs.markup is not None and not caps.markup:
        raise invalid.invalid_value("markup", "A markup is not supported for this model.")


def decide_options(ask: Ask | VideoAsk, target: Target[AnyCaps], providers: Collection[str]) -> Decision:
    """The options for this target; an unknown one is refused, for nobody else could name it."""
    accepted, name = target.caps.options, target.upstream.name
    keyed = ask.provider_options.get(name, {})
    if not isinstance(keyed, Mapping):
        raise invalid.wrong_type(f"provider_options.{name}", "an object", "another value")
    options = {
        key: value
        for key, value in ask.provider_options.items()
        if key != name and (key in accepted or key not in providers or not isinstance(value, Mapping))
    }
    options.update(keyed)
    if "*" not in accepted:
        for key in options.keys() - accepted:
            listed = (
                f" This model takes: {invalid.listed(sorted(accepted))}." if accepted else " This model takes none."
            )
            raise invalid.unknown_parameter(f"provider_options.{key}", listed)
    return Decision({"options": options})
