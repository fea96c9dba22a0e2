from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy import sizes
from proxy.ask import Link
from proxy.catalog import Target, Upstream
from proxy.plan import Plan
from proxy.video.ask import Inputs, VideoAsk
from proxy.video.decide import DECISIONS, ELSEWHERE, WEIGHED, keeps_shape
from proxy.video.lengths import lines, pixels_of
from proxy.video.plan import check_possible, expected, job_of, plan, plans, rehearsed
from tests import pictures
from translators import VIDEO_MAKERS, load_video
from translators.base import Fault, Media, Translator, blob
from translators.video import Task, VideoCaps, VideoJob

RED, CLIP = pictures.media("red.png"), pictures.media("clip.mp4")
ALL_TASKS: tuple[Task, ...] = ("create", "edit", "extend", "remix")
NONE: Any = SimpleNamespace()  # a translator that the plan never looks at
LINK = Link("https://x", "x")


def target(
    caps: VideoCaps, name: str = "lab", model: str = "m", translator: Translator = NONE, site: Mapping[str, str] = {}
) -> Target[VideoCaps]:
    base = "https://x" if translator is NONE else translator.base(site)
    upstream = Upstream(name=name, translator=translator, base=base, site=site, credentials=())
    return Target(upstream=upstream, model=model, caps=caps)


PLAIN = VideoCaps()
RICH = VideoCaps(
    tasks=frozenset(ALL_TASKS), seconds=(4, 6, 8), usual_seconds=8, extra_seconds=(4, 8), clip_seconds=(2, 30),
    ratios=("16:9", "9:16", "1:1"), resolutions=("480p", "720p", "1080p"), first=True, last=True, references=3,
    pixels_of={"16:9@480p": (854, 480), "16:9@720p": (1280, 720), "9:16@720p": (720, 1280), "1:1@720p": (960, 960),
               "16:9@1080p": (1920, 1080), "9:16@1080p": (1080, 1920)},
    sound="choice", options=frozenset({"draft"}),
    params=frozenset({"seed", "negative_prompt", "watermark", "camera", "user", "steps", "guidance"}),
)  # fmt: skip
LISTED = replace(RICH, ratios=(), resolutions=(), pixels_of={}, sizes=((720, 1280), (1280, 720)), sound="always")
SHAPED = replace(RICH, frames_shape=True, mixes=True)
MOVES = replace(PLAIN, text=False, first=True, frames_shape=True, resolutions=("720P", "1080P"), seconds=(5,))
EDITS = VideoCaps(tasks=frozenset({"edit"}), text=False, clip_seconds=(0, 15), frames_shape=True)
OWN = replace(RICH, clip_inputs="none")
MADE_UP = {"plain": PLAIN, "rich": RICH, "listed": LISTED, "shaped": SHAPED, "moves": MOVES, "edits": EDITS, "own": OWN}

SITES: Mapping[str, Mapping[str, str]] = {"vertex": {"project": "p"}}


def real() -> Iterator[Target[VideoCaps]]:
    for name in VIDEO_MAKERS:
        module = load_video(name)
        for model, caps in module.VIDEOS.items():
            yield target(caps, name, model, module, SITES.get(name, {}))


REAL = list(real())
TARGETS = [target(caps, "lab", name) for name, caps in MADE_UP.items()] + REAL
each_target = pytest.mark.parametrize("at", TARGETS, ids=lambda at: at.id)
each_real = pytest.mark.parametrize("at", REAL, ids=lambda at: at.id)


def media(width: int, height: int) -> Media:
    return replace(RED, width=width, height=height)


def asked(caps: VideoCaps, task: Task | None = None, **members: Any) -> tuple[VideoAsk, Inputs]:
    """A request that the model can do, with what is given besides."""
    task = task or next(task for task in ALL_TASKS if task in caps.tasks)
    said: dict[str, Any] = {"task": task, "prompt": "a cat", **members}
    got: dict[str, Any] = {}
    if task == "create" and not caps.text and not {"first", "references"} & members.keys():
        said |= {"first": LINK} if caps.first else {"references": (LINK,)}
    for name in ("first", "last"):
        if isinstance(said.get(name), Media):
            got[name], said[name] = said[name], LINK
        elif said.get(name):
            got[name] = RED
    got["references"] = (RED,) * len(said.get("references", ()))
    if task != "create":
        got |= {"clip": CLIP, "origin": {"id": "1", "url": "https://x", "video": "https://x", "interaction": "i",
                                         "seconds": "5"}, "maker": "lab", "origin_seconds": 5.0}  # fmt: skip
    return VideoAsk(**said), Inputs(**got)


def made(caps: VideoCaps, task: Task | None = None, strict: bool = False, **members: Any) -> Plan[VideoCaps]:
    return plan(*asked(caps, task, **members), target(caps), strict=strict)


def refused(caps: VideoCaps, task: Task | None = None, strict: bool = False, **members: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        made(caps, task, strict, **members)
    assert caught.value.kind == "invalid"
    assert caught.value.message
    return caught.value


def texts(planned: Plan[VideoCaps]) -> list[str]:
    return [note.text for note in planned.notes]


# --- every field has an end at every model ----------------------------------------------------------------------------

TELLING: Mapping[str, tuple[dict[str, Any], ...]] = {
    "prompt": ({"prompt": "another"}, {"prompt": "x" * 1_000_000}),
    "seconds": tuple({"seconds": seconds} for seconds in (1, 4, 5, 8, 12, 60)),
    "size": tuple({"size": size} for size in ("720x1280", "1280x720", "1024x1792", "333x333", "720p", "4K")),
    "aspect_ratio": ({"aspect_ratio": "16:9"}, {"aspect_ratio": "9:21"}),
    "resolution": ({"resolution": "720p"}, {"resolution": "4K"}, {"resolution": "480P"}),
    "first": ({"first": LINK},),
    "last": ({"last": LINK, "first": LINK}, {"last": LINK}),
    "references": ({"references": (LINK,)}, {"references": (LINK,) * 32}),
    "negative_prompt": ({"negative_prompt": "dog"},),
    "seed": ({"seed": 7},),
    "steps": ({"steps": 20},),
    "guidance": ({"guidance": 3.5},),
    "audio": ({"audio": True}, {"audio": False}),
    "camera": ({"camera": "fixed"},),
    "user": ({"user": "u"},),
    "safety_identifier": ({"safety_identifier": "s"},),
    "watermark": ({"watermark": True}, {"watermark": False}),
    "provider_options": ({"provider_options": {"no_such_option": 1}}, {"provider_options": {"lab": {"odd": 1}}}),
}
SENT_AS: Mapping[str, tuple[str, ...]] = {
    "size": ("size", "ratio", "resolution"), "aspect_ratio": ("size", "ratio"), "resolution": ("size", "resolution"),
    "provider_options": ("options",), "user": ("user", "safety_identifier"),
    "safety_identifier": ("user", "safety_identifier"),
}  # fmt: skip
WIRE = {"first": "input_reference", "last": "last_frame", "references": "reference_images"}


@each_target
def test_no_field_is_lost_on_the_way(at: Target[VideoCaps]) -> None:
    for task in at.caps.tasks:
        for field, cases in TELLING.items():
            for members in cases:
                if task != "create" and {"first", "last"} & members.keys():
                    continue  # no request can say it
                assert ending(at, task, field, members), f"{task}: {members} has no decision"


def ending(at: Target[VideoCaps], task: Task, field: str, members: Mapping[str, Any]) -> str | None:
    """What became of `field`."""
    ask, inputs = asked(at.caps, task, **members)
    inputs = replace(inputs, maker=at.upstream.name)
    try:
        planned = plan(ask, inputs, at)
    except Fault as fault:
        assert fault.kind == "invalid"
        assert fault.code
        named = (fault.param or "").partition(".")[0].partition("[")[0]
        return "refused" if named in {WIRE.get(name, name) for name in members} else None
    job = job_of(planned)
    assert_settled(job, at.caps)
    if notes := [note for note in planned.notes if note.param == field]:
        return notes[0].action
    for member in SENT_AS.get(field, (field,)):
        if getattr(job, member) != getattr(VideoJob(op="video", model=""), member):
            return "sent"
    if field == "audio":
        return "its own" if members["audio"] == (at.caps.sound == "always") else None
    if field == "seconds" and task in {"edit", "remix"} and members["seconds"] == inputs.origin_seconds:
        return "its own"
    if keeps_shape(ask, at.caps) and members.get(field) in {"16:9", "1280x720"}:
        return "its own" if task != "create" else None  # the clip's
    return None


def assert_settled(job: VideoJob, caps: VideoCaps) -> None:
    """What a translator may rely on."""
    assert job.task in caps.tasks
    assert job.n == 1
    assert len(job.prompt) <= caps.prompt_chars
    assert job.seconds is None or job.seconds in (caps.extra_seconds if job.task == "extend" else caps.seconds)
    assert job.size is None or job.size in caps.sizes
    assert job.ratio is None or job.ratio in caps.ratios
    assert job.resolution is None or job.resolution in caps.resolutions
    assert not (job.size and job.ratio)
    assert job.first is None or (caps.first and job.task == "create")
    assert not (caps.frames_shape and job.first and job.ratio)
    assert job.last is None or (caps.last and job.first)
    assert len(job.references) <= caps.references
    assert caps.mixes or not (job.first and job.references)
    assert job.task != "create" or caps.text or job.first or job.references
    assert job.task == "create" or job.clip or job.origin
    assert caps.clip_inputs != "none" or job.clip is None
    assert job.audio is None or caps.sound == "choice"
    assert "*" in caps.options or caps.options.issuperset(job.options)
    for name in ("seed", "negative_prompt", "steps", "guidance", "watermark", "camera", "user", "safety_identifier"):
        assert getattr(job, name) is None or name in caps.params


def test_each_field_of_an_ask_has_one_decision() -> None:
    decided = [field for fields, _ in (*DECISIONS, *WEIGHED) for field in fields] + list(ELSEWHERE)
    assert sorted(decided) == sorted(VideoAsk.__struct_fields__)
    assert {name for at in TARGETS for name in at.caps.params} <= set(VideoAsk.__struct_fields__)


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "task", "said", "got", "notes"),
    [
        (RICH, "create", None, None, []), (RICH, "create", 4, 4, []), (RICH, "create", 5, 6, ["seconds 5 -> 6"]),
        (RICH, "create", 7, 8, ["seconds 7 -> 8"]), (RICH, "create", 1, 4, ["seconds 1 -> 4"]),
        (RICH, "create", 60, 8, ["seconds 60 -> 8"]), (RICH, "extend", 6, 8, ["seconds 6 -> 8"]),
        (RICH, "extend", None, None, []), (PLAIN, "create", 4, None, ["seconds 4 left out: the model decides"]),
        (RICH, "edit", 8, None, ["seconds 8 left out: the video keeps its own length"]), (RICH, "edit", 5, None, []),
        (EDITS, "edit", 8, None, ["seconds 8 left out: the video keeps its own length"]),
        (replace(EDITS, seconds=(5, 10)), "edit", 9, 10, ["seconds 9 -> 10"]),
    ],
)  # fmt: skip
def test_seconds(caps: VideoCaps, task: Task, said: int | None, got: int | None, notes: list[str]) -> None:
    planned = made(caps, task, seconds=said)
    assert (job_of(planned).seconds, texts(planned)) == (got, notes)


def test_a_length_that_is_far_off_is_refused_where_the_client_is_strict() -> None:
    assert job_of(made(RICH, strict=True, seconds=7)).seconds == 8
    fault = refused(RICH, strict=True, seconds=60)
    assert (fault.code, fault.param) == ("unsupported_parameter", "seconds")


@given(st.integers(1, 3600))
def test_any_length(seconds: int) -> None:
    for at in TARGETS:
        if "create" not in at.caps.tasks or not at.caps.seconds:
            continue
        planned = plan(*asked(at.caps, "create", seconds=seconds), at)
        got = job_of(planned).seconds
        assert got in at.caps.seconds
        best = min(abs(length - seconds) for length in at.caps.seconds)
        assert abs(got - seconds) == best
        assert not any(length > got and abs(length - seconds) == best for length in at.caps.seconds)
        assert bool(planned.notes) == (got != seconds)


# --- sizes ------------------------------------------------------------------------------------------------------------


@each_real
def test_resolutions_can_be_read(at: Target[VideoCaps]) -> None:
    heights = [lines(name) for name in at.caps.resolutions]
    assert all(heights)
    assert heights == sorted(heights, key=lambda height: height or 0)
    for name, size in at.caps.pixels_of.items():
        assert sizes.parse_ratio(name.partition("@")[0])
        assert min(size)


@pytest.mark.parametrize(
    ("caps", "members", "size", "ratio", "resolution", "notes"),
    [
        (RICH, {}, None, None, None, []), (RICH, {"size": "auto", "resolution": "auto"}, None, None, None, []),
        (RICH, {"size": "1280x720"}, None, "16:9", "720p", []), (RICH, {"size": "720x1280"}, None, "9:16", "720p", []),
        (RICH, {"size": "1024x1792"}, None, "9:16", "1080p", ["size 1024x1792 -> 1080x1920"]),
        (RICH, {"size": "333x333"}, None, "1:1", "480p", ["size 333x333 -> 1:1 at 480p"]),
        (RICH, {"aspect_ratio": "9:16"}, None, "9:16", None, []),
        (RICH, {"aspect_ratio": "21:9"}, None, "16:9", None, ["aspect_ratio 21:9 -> 16:9"]),
        (RICH, {"resolution": "1080P"}, None, None, "1080p", []),
        (RICH, {"resolution": "4K"}, None, None, "1080p", ["resolution 4K -> 1080p"]),
        (RICH, {"resolution": "768p"}, None, None, "720p", ["resolution 768p -> 720p"]),
        (RICH, {"size": "1080p", "aspect_ratio": "9:16"}, None, "9:16", "1080p", []),
        (RICH, {"size": "1280x720", "aspect_ratio": "16:9", "resolution": "720p"}, None, "16:9", "720p", []),
        (LISTED, {"size": "1280x720"}, (1280, 720), None, None, []),
        (LISTED, {"size": "1792x1024"}, (1280, 720), None, None, ["size 1792x1024 -> 1280x720"]),
        (LISTED, {"aspect_ratio": "16:9"}, (1280, 720), None, None, []),
        (LISTED, {"resolution": "1080p"}, (720, 1280), None, None, ["resolution 1080p -> 720x1280"]),
        (PLAIN, {"size": "1280x720"}, None, None, None, ["size 1280x720 -> the model's own"]),
        (PLAIN, {"aspect_ratio": "16:9"}, None, None, None, ["aspect_ratio 16:9 -> the model's own"]),
        (PLAIN, {"resolution": "720p"}, None, None, None, ["resolution 720p -> the model's own"]),
        # a first frame
        (RICH, {"first": media(600, 1000)}, None, "9:16", None, []),
        (LISTED, {"first": media(9, 16)}, (720, 1280), None, None, []),
        (RICH, {"first": media(600, 1000), "size": "1280x720"}, None, "16:9", "720p", []),
        (SHAPED, {"first": media(1280, 720), "size": "1280x720"}, None, None, "720p", []),
        (SHAPED, {"first": media(1280, 720), "aspect_ratio": "16:9"}, None, None, None, []),
        (SHAPED, {"first": media(1280, 720), "size": "720x1280"}, None, None, "720p",
         ["size 720x1280 -> 720p in the shape of the first frame"]),
        (SHAPED, {"first": media(1280, 720), "aspect_ratio": "1:1"}, None, None, None,
         ["aspect_ratio 1:1 left out: as the first frame"]),
        (SHAPED, {"first": media(1280, 720), "resolution": "4K"}, None, None, "1080p", ["resolution 4K -> 1080p"]),
        (MOVES, {"first": media(1280, 720), "size": "1792x1024"}, None, None, "1080P",
         ["size 1792x1024 -> 1080P in the shape of the first frame"]),
    ],
)  # fmt: skip
def test_size(
    caps: VideoCaps, members: dict[str, Any], size: Any, ratio: str | None, resolution: str | None, notes: list[str]
) -> None:
    planned = made(caps, **members)
    job = job_of(planned)
    assert (job.size, job.ratio, job.resolution) == (size, ratio, resolution)
    assert texts(planned) == notes


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"size": "1280x720", "aspect_ratio": "9:16"}, "aspect_ratio"),
        ({"size": "1280x720", "resolution": "1080p"}, "resolution"),
        ({"size": "720p", "resolution": "4K"}, "resolution"),
    ],
)  # fmt: skip
def test_wishes_that_contradict_each_other(members: dict[str, Any], param: str) -> None:
    assert refused(RICH, **members).param == param
    assert refused(SHAPED, **members).param == param


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9999), st.integers(1, 9999))
def test_any_size(width: int, height: int) -> None:
    for at in TARGETS:
        if "create" not in at.caps.tasks:
            continue
        ask, inputs = asked(at.caps, "create", size=f"{width}x{height}")
        planned = plan(ask, inputs, at)
        job = job_of(planned)
        assert_settled(job, at.caps)
        choice = sizes.Choice(size=job.size, ratio=job.ratio, resolution=job.resolution)
        notes = [note for note in planned.notes if note.param == "size"]
        if keeps_shape(ask, at.caps):
            continue
        if pixels_of(choice, at.caps) == (width, height):
            assert not notes
        elif (shape := sizes.ratio_of(choice)) is None or sizes.off(shape, width / height) > sizes.CLOSE:
            assert [note.action for note in notes] == ["noted"], "another shape is always named"


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "members", "param"),
    [
        (PLAIN, {"first": LINK}, "input_reference"), (PLAIN, {"references": (LINK,)}, "reference_images"),
        (replace(RICH, last=False), {"first": LINK, "last": LINK}, "last_frame"), (RICH, {"last": LINK}, "last_frame"),
        (RICH, {"references": (LINK,) * 4}, "reference_images"),
        (RICH, {"references": (LINK,), "first": LINK}, "reference_images"),
        (MOVES, {"first": None}, "input_reference"),
        (replace(RICH, text=False, first=False, last=False), {"first": None}, "reference_images"),
    ],
)  # fmt: skip
def test_pictures_that_would_not_be_used(caps: VideoCaps, members: dict[str, Any], param: str) -> None:
    fault = refused(caps, **members)
    assert fault.param == param
    with pytest.raises(Fault) as caught:
        check_possible(asked(caps, **members)[0], [target(caps)])
    assert caught.value.message == fault.message


def test_pictures_that_are_used() -> None:
    job = job_of(made(SHAPED, first=LINK, last=LINK, references=(LINK,) * 3))
    assert (job.first, job.last, job.references) == (RED, RED, (RED,) * 3)


def test_a_turned_photograph_is_as_high_as_it_is_seen() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    head = b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    frame = b"\xff\xc0\0\x11\x08" + (720).to_bytes(2, "big") + (1280).to_bytes(2, "big") + b"\x03" + bytes(9)
    turned = Media(blob=blob(head + frame), type="image/jpeg", width=1280, height=720)
    assert job_of(made(RICH, first=turned)).ratio == "9:16"
    assert job_of(made(RICH, first=media(1280, 720))).ratio == "16:9"


# --- tasks and clips --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_that_the_model_does_not_do(task: Task) -> None:
    caps = replace(RICH, tasks=frozenset({"create", "edit"}) - {task} or frozenset({"edit"}))
    if task in {"extend", "remix"}:
        caps = replace(RICH, tasks=frozenset({"create", "edit"}))
    fault = refused(caps, task, model="seen")
    assert (fault.param, fault.code) == ("model", "invalid_value")
    assert fault.message.startswith(
        f"The model 'seen' does not {'make new' if task == 'create' else task} videos; it can"
    )


def test_the_first_target_says_why_where_none_can() -> None:
    ask, inputs = asked(RICH, "remix")
    able = plans(ask, inputs, [target(PLAIN), target(RICH), target(EDITS)])
    assert [each.target.caps for each in able] == [RICH]
    with pytest.raises(Fault, match="does not remix"):
        plans(ask, inputs, [target(PLAIN), target(EDITS)])
    with pytest.raises(Fault, match="does not remix"):
        check_possible(ask, [target(PLAIN), target(EDITS)])
    check_possible(ask, [target(PLAIN), target(RICH)])


ORIGIN = {"id": "1"}


@pytest.mark.parametrize(
    ("clip_inputs", "clip", "maker", "got"),
    [
        ("bytes", CLIP, "lab", (CLIP, ORIGIN)), ("bytes", CLIP, "", (CLIP, {})), ("bytes", CLIP, "other", (CLIP, {})),
        ("bytes", None, "lab", (None, ORIGIN)), ("bytes", None, "other", "made by another"),
        ("bytes", None, "", "Missing"), ("none", CLIP, "lab", (None, ORIGIN)), ("none", CLIP, "", "its own provider"),
        ("none", CLIP, "other", "its own provider"), ("url", CLIP, "lab", (None, ORIGIN)),
        ("url", CLIP, "", (CLIP, {})),
        ("url", replace(CLIP, url="https://x"), "lab", (replace(CLIP, url="https://x"), ORIGIN)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", ["edit", "extend", "remix"])
def test_the_video_to_change(task: Task, clip_inputs: Any, clip: Media | None, maker: str, got: Any) -> None:
    caps = replace(RICH, clip_inputs=clip_inputs)
    inputs = Inputs(clip=clip, maker=maker, origin=ORIGIN if maker else {})
    ask = VideoAsk(task=task, prompt="x")
    if isinstance(got, str):
        with pytest.raises(Fault, match=got) as caught:
            plan(ask, inputs, target(caps))
        assert caught.value.param == "video"
    else:
        job = job_of(plan(ask, inputs, target(caps)))
        assert (job.clip, job.origin) == got


@pytest.mark.parametrize(("seconds", "fine"), [(None, True), (1.5, False), (2.0, True), (30.0, True), (31.0, False)])
def test_how_long_a_clip_may_be(seconds: float | None, fine: bool) -> None:
    ask, inputs = asked(RICH, "edit")
    inputs = replace(inputs, origin_seconds=seconds)
    if fine:
        assert plan(ask, inputs, target(RICH)).jobs
    else:
        with pytest.raises(Fault, match="2 to 30 seconds") as caught:
            plan(ask, inputs, target(RICH))
        assert caught.value.param == "video"


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "said", "sent", "notes"),
    [
        ("choice", True, True, []), ("choice", False, False, []), ("choice", None, None, []),
        ("always", True, None, []),
        ("always", False, None, ["audio false left out: this model makes videos with sound"]),
        ("none", False, None, []),
        ("none", True, None, ["audio true left out: this model makes silent videos"]),
    ],
)  # fmt: skip
def test_sound(sound: Any, said: bool | None, sent: bool | None, notes: list[str]) -> None:
    planned = made(replace(RICH, sound=sound), audio=said)
    assert (job_of(planned).audio, texts(planned)) == (sent, notes)


def test_what_a_model_takes_or_leaves() -> None:
    members: dict[str, Any] = {"seed": 7, "camera": "fixed", "watermark": False, "user": "u", "negative_prompt": "dog"}
    job = job_of(made(RICH, **members))
    assert {name: getattr(job, name) for name in members} == members
    assert texts(made(PLAIN, **members)) == [
        "user left out", "negative_prompt left out", "seed left out", "watermark left out", "camera left out",
    ]  # fmt: skip
    assert refused(PLAIN, strict=True, camera="fixed").param == "camera"


def test_options_of_a_provider() -> None:
    options = {"draft": True, "bfl": {"other": 1}}
    assert job_of(made(RICH, provider_options=options)).options == {"draft": True}
    assert job_of(made(RICH, provider_options={"lab": {"draft": 1}})).options == {"draft": 1}
    fault = refused(RICH, provider_options={"odd": 1})
    assert (fault.code, fault.param) == ("unknown_parameter", "provider_options.odd")


def test_a_prompt_that_is_too_long() -> None:
    fault = refused(PLAIN, prompt="x" * 2501)
    assert (fault.code, fault.param) == ("string_above_max_length", "prompt")


# --- what is known before it is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "task", "members", "seconds", "size"),
    [
        (RICH, "create", {}, 8, (1280, 720)), (RICH, "create", {"seconds": 4, "size": "720x1280"}, 4, (720, 1280)),
        (replace(RICH, usual_resolution="480p"), "create", {}, 8, (854, 480)),
        (RICH, "create", {"aspect_ratio": "1:1", "resolution": "1080p"}, 8, (1080, 1080)),
        (LISTED, "create", {}, 8, (720, 1280)), (PLAIN, "create", {}, None, (1280, 720)),
        (SHAPED, "create", {"first": media(500, 1000)}, 8, (720, 1440)), (MOVES, "create", {}, 5, (720, 720)),
        (RICH, "edit", {}, 5, (1280, 720)), (RICH, "extend", {"seconds": 4}, 9, (1280, 720)),
        (RICH, "extend", {}, None, (1280, 720)), (replace(RICH, extra_seconds=(7,)), "extend", {}, 12, (1280, 720)),
    ],
)  # fmt: skip
def test_what_is_expected(caps: VideoCaps, task: Task, members: dict[str, Any], seconds: int | None, size: Any) -> None:
    ask, inputs = asked(caps, task, **members)
    told = expected(job_of(plan(ask, inputs, target(caps))), inputs, caps)
    assert (told.seconds, told.size) == (seconds, size)


@each_target
def test_something_is_always_expected(at: Target[VideoCaps]) -> None:
    for task in at.caps.tasks:
        ask, inputs = asked(at.caps, task)
        inputs = replace(inputs, maker=at.upstream.name)
        told = expected(job_of(plan(ask, inputs, at)), inputs, at.caps)
        assert min(told.size) >= 240
        assert told.seconds is None or told.seconds > 0


# --- a rehearsal ------------------------------------------------------------------------------------------------------


@each_real
def test_what_is_planned_can_be_said(at: Target[VideoCaps]) -> None:
    """Each translator finds words for what the plan calls legal, or refuses it by a parameter's name."""
    for task in at.caps.tasks:
        for members in ({}, {"seconds": 8, "size": "1280x720"}, {"audio": True}, {"resolution": "1080p"}):
            ask, inputs = asked(at.caps, task, **members)
            job = job_of(plan(ask, replace(inputs, maker=at.upstream.name), at))
            try:
                assert rehearsed(job, at) is job
            except Fault as fault:
                assert fault.kind == "invalid"
                assert fault.param


def test_a_rehearsal_refuses_what_no_table_tells() -> None:
    at = next(at for at in REAL if at.model == "veo-3.1-generate-001")
    ask, inputs = asked(at.caps, references=(LINK,), seconds=4)
    with pytest.raises(Fault, match="8 seconds") as caught:
        rehearsed(job_of(plan(ask, inputs, at)), at)
    assert caught.value.param == "seconds"


@pytest.mark.parametrize("caps", [replace(RICH, inputs="url"), replace(RICH, clip_inputs="url")])
def test_there_is_no_rehearsal_before_everything_has_an_address(caps: VideoCaps) -> None:
    """The translator here would fail at once."""
    creates = VideoJob(op="video", model="m", first=RED)
    edits = VideoJob(op="video", model="m", task="edit", clip=CLIP)
    job = creates if caps.inputs == "url" else edits
    assert rehearsed(job, target(caps)) is job
    with pytest.raises(AttributeError):
        rehearsed(VideoJob(op="video", model="m"), target(caps))
