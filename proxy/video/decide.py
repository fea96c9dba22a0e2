"""What becomes of each field of a request at one model of videos. Pure; as `proxy.decide` does it for pictures.

A length or a size becomes the nearest that the model makes, which is *noted* where it is not near. *Refused* is what
would change what the video shows: frames, references and clips that the model does not take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from msgspec.structs import replace

from proxy import invalid, sizes
from proxy.catalog import Target
from proxy.decide import NOTHING, Decision, Note, decide_user, left_out, passed
from proxy.sizes import CLOSE, Choice, Wish, off, shown
from proxy.sniff import look
from proxy.video.ask import Inputs, VideoAsk
from proxy.video.lengths import choose, lines, nearest_length, pixels_of
from translators.base import Fault, Media, Size
from translators.video import Task, VideoCaps

Decide: TypeAlias = Callable[[VideoAsk, VideoCaps], Decision]
Weigh: TypeAlias = Callable[[VideoAsk, Inputs, VideoCaps], Decision]
"""Where it depends on what came along."""

# ---- what the model does at all

DOES: Mapping[Task, str] = {
    "create": "make new videos", "edit": "edit videos", "extend": "extend videos", "remix": "remix videos",
}  # fmt: skip


def check_task(ask: VideoAsk, caps: VideoCaps) -> None:
    """Refuse what the model does not do at all."""
    if ask.task in caps.tasks:
        return
    model = f"The model '{invalid.clip(ask.model)}'" if ask.model else "This model"
    can = " and ".join(words for task, words in DOES.items() if task in caps.tasks)
    raise invalid.invalid_value("model", f"{model} does not {DOES[ask.task]}; it can {can}.")


def check_pictures(ask: VideoAsk, caps: VideoCaps) -> None:
    """Refuse pictures that the model would not use as they are meant, and the lack of those that it needs."""
    if ask.first is not None and not caps.first:
        hint = f" It takes up to {caps.references} 'reference_images'." if caps.references else ""
        raise invalid.invalid_value("input_reference", f"This model takes no first frame.{hint}")
    if ask.last is not None:
        if not caps.last:
            raise invalid.invalid_value("last_frame", "This model takes no last frame.")
        if ask.first is None:
            text = "A last frame needs a first one beside it: give it as 'input_reference'."
            raise invalid.invalid_value("last_frame", text)
    if ask.references:
        _check_references(ask, caps)
    elif ask.first is None and ask.task == "create" and not caps.text:
        param = "input_reference" if caps.first else "reference_images"
        text = f"This model does not make videos of text alone: it needs '{param}'."
        raise Fault("invalid", text, code="missing_required_parameter", param=param)


def _check_references(ask: VideoAsk, caps: VideoCaps) -> None:
    count = len(ask.references)
    if not caps.references:
        hint = " It takes a first frame: 'input_reference'." if caps.first and ask.first is None else ""
        raise invalid.invalid_value("reference_images", f"This model takes no reference images.{hint}")
    if count > caps.references:
        raise invalid.too_many("reference_images", caps.references, count)
    if not caps.mixes and ask.first is not None:
        text = "This model takes either reference images or frames: 'reference_images' or 'input_reference'."
        raise invalid.invalid_value("reference_images", text)


# ---- words and lengths


def decide_prompt(ask: VideoAsk, caps: VideoCaps) -> Decision:
    """Whole, or not at all."""
    if len(ask.prompt) > caps.prompt_chars:
        raise invalid.too_long("prompt", caps.prompt_chars, len(ask.prompt))
    return Decision({"prompt": ask.prompt})


def decide_seconds(ask: VideoAsk, inputs: Inputs, caps: VideoCaps) -> Decision:
    """The nearest length that the model makes; of two, the longer one."""
    said = ask.seconds
    if said is None:
        return NOTHING
    if not (legal := lengths_of(ask.task, caps)):
        if ask.task in {"edit", "remix"}:
            if inputs.origin_seconds is not None and round(inputs.origin_seconds) == said:
                return NOTHING
            return Decision(notes=(left_out("seconds", f"{said} left out: the video keeps its own length"),))
        return Decision(notes=(left_out("seconds", f"{said} left out: the model decides"),))
    got = nearest_length(said, legal)
    if got == said:
        return Decision({"seconds": got})
    near = abs(got - said) <= max(1, said / 4)
    note = Note("seconds", "converted" if near else "noted", f"seconds {said} -> {got}")
    return Decision({"seconds": got}, notes=(note,))


def lengths_of(task: Task, caps: VideoCaps) -> tuple[int, ...]:
    """The lengths that can be asked for. A changed video keeps its own, but where the model does nothing else."""
    if task == "extend":
        return caps.extra_seconds
    return caps.seconds if task == "create" or "create" not in caps.tasks else ()


# ---- sizes


def decide_size(ask: VideoAsk, inputs: Inputs, caps: VideoCaps) -> Decision:
    """The nearest that the model makes. Where nothing is said, a first frame tells the shape, or the model decides."""
    wish = read_wish(ask)
    if keeps_shape(ask, caps):
        return _kept(ask, inputs, caps, wish)
    choice = choose(wish, caps)
    if inputs.first is not None and not (wish.size or wish.ratio):
        width, height = upright(inputs.first)
        if width and height:
            choice = choose(replace(wish, ratio=f"{width / height:.3f}:1"), caps)
    members = {"size": choice.size, "ratio": choice.ratio, "resolution": choice.resolution}
    return Decision(members, notes=tuple(_size_notes(ask, wish, choice, caps)))


def keeps_shape(ask: VideoAsk, caps: VideoCaps) -> bool:
    """Whether a frame or a clip decides the shape, whatever is asked for."""
    if ask.task == "create":
        return caps.frames_shape and ask.first is not None
    return caps.frames_shape or bool(caps.sizes)


def upright(picture: Media) -> Size:
    """Its width and height as it is meant to be seen; 0 where nobody knows."""
    found = look(picture.blob)
    turned = found is not None and found.orientation > 4
    return (picture.height, picture.width) if turned else (picture.width, picture.height)


def read_wish(ask: VideoAsk) -> Wish:
    """What was said of the size, once it does not contradict itself."""
    size = sizes.parse_size(ask.size) if ask.size else None
    tier = ask.size if ask.size and ask.size != "auto" and not size else None  # "720p", as some write it
    ratio = ask.aspect_ratio if ask.aspect_ratio != "auto" else None
    resolution = ask.resolution if ask.resolution != "auto" else None
    if size and ratio and off(size[0] / size[1], sizes.parse_ratio(ratio) or 1) > CLOSE:
        raise _contradiction("aspect_ratio", ask.size, ratio)
    short = lines(resolution) if resolution else None
    said = min(size) if size else lines(tier) if tier else None
    if short and said and off(short, said) >= 0.3:
        raise _contradiction("resolution", ask.size, resolution)
    return Wish(size, ratio, resolution or tier)


def _contradiction(param: str, size: str | None, other: str | None) -> Fault:
    text = f"'size' {size} and '{param}' {other} contradict each other. Give one of them."
    return invalid.invalid_value(param, text)


def _kept(ask: VideoAsk, inputs: Inputs, caps: VideoCaps, wish: Wish) -> Decision:
    """Of a size, the resolution alone; what is told of the shape has to be that of the frame."""
    whose = "the first frame" if ask.task == "create" else "the video"
    media = inputs.first or inputs.clip
    width, height = upright(media) if media else (0, 0)
    choice = choose(replace(wish, ratio=None), caps) if not caps.sizes else sizes.NOTHING
    notes: list[Note] = []
    for param in ("size", "aspect_ratio"):
        said = getattr(ask, param)
        wanted = (sizes.parse_size if param == "size" else sizes.parse_ratio)(said or "")
        if not wanted:
            continue
        shape = wanted[0] / wanted[1] if isinstance(wanted, tuple) else wanted
        close = bool(width and height) and off(width / height, shape) <= CLOSE
        sharp = not isinstance(wanted, tuple) or _near(choice, min(wanted), 0.05) or wanted == (width, height)
        if not (close and sharp):
            got = f"-> {choice.resolution} in the shape of" if choice.resolution else "left out: as"
            notes.append(Note(param, "converted" if close else "noted", f"{param} {said} {got} {whose}"))
    for param, said in _tiers(ask):
        notes += _resolution_note(param, said, choice)
    return Decision({"resolution": choice.resolution}, notes=tuple(notes))


def _tiers(ask: VideoAsk) -> Iterator[tuple[str, str]]:
    """Where a resolution is said by its name."""
    if ask.size and ask.size != "auto" and not sizes.parse_size(ask.size):
        yield "size", ask.size
    if ask.resolution and ask.resolution != "auto":
        yield "resolution", ask.resolution


def _size_notes(ask: VideoAsk, wish: Wish, choice: Choice, caps: VideoCaps) -> Iterator[Note]:
    """By how much `choice` misses what was said."""
    pixels, shape = pixels_of(choice, caps), sizes.ratio_of(choice)
    got = shown(pixels) if pixels else _words(choice)
    if wish.size:
        miss = off(wish.size[0] / wish.size[1], shape) if shape else None
        same = pixels == wish.size if pixels else miss is not None and miss < 0.005 and _near(choice, min(wish.size), 0)
        if not same:
            yield _note("size", ask.size, got, close=miss is not None and miss <= CLOSE)
    if wish.ratio:
        miss = off(sizes.parse_ratio(wish.ratio) or 1, shape) if shape else None
        if miss is None or miss >= 0.005:
            yield _note("aspect_ratio", wish.ratio, got, close=miss is not None and miss <= CLOSE)
    for param, said in _tiers(ask):
        yield from _resolution_note(param, said, choice)


def _resolution_note(param: str, said: str, choice: Choice) -> Iterator[Note]:
    if (choice.resolution or "").casefold() == said.casefold():
        return
    wanted = lines(said) or 1
    if not _near(choice, wanted, 0.05):
        got = choice.resolution or (shown(choice.size) if choice.size else _words(choice))
        yield _note(param, said, got, close=_near(choice, wanted, 0.45))  # less than half the way to the next one


def _near(choice: Choice, wanted: int, miss: float) -> bool:
    """Whether the shorter edge is as wished for."""
    short = min(choice.size) if choice.size else lines(choice.resolution or "")
    return short is not None and off(short, wanted) <= miss


def _words(choice: Choice) -> str:
    return " at ".join(word for word in (choice.ratio, choice.resolution) if word) or "the model's own"


def _note(param: str, said: str | None, got: str, *, close: bool) -> Note:
    return Note(param, "converted" if close else "noted", f"{param} {said} -> {got}")


# ---- sound, clips, and the rest


def decide_audio(ask: VideoAsk, caps: VideoCaps) -> Decision:
    """Sent where the model leaves the choice; what it does of itself need not be said."""
    said = ask.audio
    if said is None:
        return NOTHING
    if caps.sound == "choice":
        return Decision({"audio": said})
    if said == (caps.sound == "always"):
        return NOTHING
    why = "this model makes silent videos" if said else "this model makes videos with sound"
    return Decision(notes=(left_out("audio", f"{str(said).lower()} left out: {why}"),))


REST = ("negative_prompt", "seed", "steps", "guidance", "watermark", "camera")


def decide_rest(ask: VideoAsk, caps: VideoCaps) -> Decision:
    """What a model takes or leaves."""
    return passed({param: getattr(ask, param) for param in REST}, caps)


def decide_clip(ask: VideoAsk, inputs: Inputs, target: Target[VideoCaps]) -> Decision:
    """The video to change: its file, and what its maker knows it by where that is asked again. Translators prefer the
    one that they need."""
    if ask.task == "create":
        return NOTHING
    caps = target.caps
    clip, origin = inputs.clip, inputs.origin if inputs.maker == target.upstream.name else {}
    if caps.clip_inputs == "none":
        clip = None
    if caps.clip_inputs == "url" and origin and clip is not None and clip.url is None:
        clip = None  # its maker still has an address of it
    if clip is None and not origin:
        raise _no_video(inputs, caps)
    _check_length(inputs.origin_seconds, caps)
    return Decision({"clip": clip, "origin": origin})


def _no_video(inputs: Inputs, caps: VideoCaps) -> Fault:
    if caps.clip_inputs == "none":
        return invalid.invalid_value("video", "This model works only on videos that its own provider made.")
    if inputs.maker:
        text = "The video is not kept here any more, and it was made by another provider. Upload it as a file."
        return invalid.invalid_value("video", text)
    return invalid.missing("video")


def _check_length(seconds: float | None, caps: VideoCaps) -> None:
    least, most = caps.clip_seconds
    if seconds is None or (least <= seconds and not 0 < most < seconds):
        return
    text = f"The video has {seconds:g} seconds; this model takes videos of {least:g} to {most:g} seconds."
    raise invalid.invalid_value("video", text)


DECISIONS: tuple[tuple[tuple[str, ...], Decide], ...] = (
    (("prompt",), decide_prompt),
    (("audio",), decide_audio),
    (("user", "safety_identifier"), decide_user),
    (REST, decide_rest),
)
WEIGHED: tuple[tuple[tuple[str, ...], Weigh], ...] = (
    (("seconds",), decide_seconds),
    (("size", "aspect_ratio", "resolution"), decide_size),
)
ELSEWHERE: Mapping[str, str] = {
    "op": "the route", "task": "check_task", "model": "the route to the target", "first": "check_pictures",
    "last": "check_pictures", "references": "check_pictures", "clip": "decide_clip", "origin": "decide_clip",
    "provider_options": "proxy.decide.decide_options", "metadata": "written to the log with the request",
    "webhook_url": "told of the end",
}  # fmt: skip
"""Fields whose decision needs more than the request and the model's abilities."""
