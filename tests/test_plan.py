from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy import sizes
from proxy.ask import Ask, Inputs, Link, PictureOp
from proxy.catalog import Target, Upstream
from proxy.decide import DECISIONS, ELSEWHERE
from proxy.plan import Plan, plan, plans
from tests import pictures
from translators import NAMES, load
from translators.base import Caps, Fault, Free, Job, Lora, Op, Translator

RED, MASK = pictures.media("red.png"), pictures.media("mask.png")
PICTURE_OPS: tuple[PictureOp, ...] = ("generate", "edit", "variation")
ALL_OPS: frozenset[Op] = frozenset(PICTURE_OPS)
NONE: Any = SimpleNamespace()  # a translator that the plan never looks at


def target(caps: Caps, name: str = "lab", model: str = "m", translator: Translator = NONE) -> Target:
    upstream = Upstream(name=name, translator=translator, base="", site={"region": "x"}, credentials=())
    return Target(upstream=upstream, model=model, caps=caps)


def translators() -> Iterator[tuple[str, Translator]]:
    """Those that are there."""
    for name in NAMES:
        try:
            yield name, load(name)
        except ModuleNotFoundError as error:
            if error.name != f"translators.{name}":
                raise


PLAIN = Caps(ops=ALL_OPS)
RICH = Caps(
    ops=ALL_OPS, max_n=4, free=Free(step=16, pixels=(655_360, 8_294_400), edge=(1, 3840), ratio=3), max_images=16,
    mask="alpha", markup=True, formats=("png", "jpeg", "webp", "gif", "svg"), compression=True,
    qualities=("low", "medium", "high"), backgrounds=("transparent", "opaque", "auto"), streams=True, partials=3,
    params=frozenset(
        {"style", "moderation", "fidelity", "complexity", "frame_count", "frame_duration_ms", "svg", "user",
         "safety_identifier", "negative_prompt", "seed", "steps", "guidance", "loras", "watermark"}
    ),
    options=frozenset({"raw", "mode"}),
)  # fmt: skip
WORDED = Caps(
    ops=ALL_OPS, ratios=("1:1", "3:2", "2:3", "16:9", "9:16"), resolutions=("1K", "2K"), max_images=3,
    pixels_of={"1:1@1K": (1024, 1024), "16:9@1K": (1344, 768)}, qualities=("std", "pro"),
)  # fmt: skip
LISTED = Caps(ops=ALL_OPS, sizes=((1024, 1024), (1536, 1024), (1024, 1536)), auto_size=False, formats=("jpeg",))
INPAINTS = Caps(ops=frozenset({"edit"}), mask="white-edits", mask_required=True, prompt_chars=0)
MADE_UP = {"plain": PLAIN, "rich": RICH, "worded": WORDED, "listed": LISTED, "inpaints": INPAINTS}

TARGETS = [target(caps, "lab", name) for name, caps in MADE_UP.items()] + [
    target(caps, name, model, module) for name, module in translators() for model, caps in module.MODELS.items()
]
each_target = pytest.mark.parametrize("at", TARGETS, ids=lambda at: at.id)


def asked(at: Caps, op: PictureOp | None = None, **members: Any) -> tuple[Ask, Inputs]:
    """A request that the model can do, with what is given besides."""
    op = op or next(op for op in PICTURE_OPS if op in at.ops)
    count = 0 if op == "generate" else max(at.min_images, 1)
    images = tuple(Link("https://x", f"image[{index}]") for index in range(count))
    prompt = "" if op == "variation" or not at.prompt_chars else "a cat"
    mask = MASK if op == "edit" and at.mask_required else None
    said = {name: value for name, value in members.items() if name in Ask.__struct_fields__}
    made = Ask(**{"op": op, "prompt": prompt, "images": images, **said})
    inputs = Inputs(images=(RED,) * count, mask=mask)
    return made, replace(inputs, **{name: value for name, value in members.items() if name in {"mask", "markup"}})


def made(caps: Caps, op: PictureOp | None = None, strict: bool = False, **members: Any) -> Plan:
    ask, inputs = asked(caps, op, **members)
    return plan(ask, inputs, target(caps), strict=strict)


def refused(caps: Caps, op: PictureOp | None = None, strict: bool = False, **members: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        made(caps, op, strict, **members)
    assert caught.value.kind == "invalid"
    assert caught.value.message
    return caught.value


def texts(planned: Plan) -> list[str]:
    return [note.text for note in planned.notes]


# --- every field of OpenAI's schema has an end at every model ---------------------------------------------------------

# CreateImageRequest, CreateImageEditRequest, EditImageBodyJsonParam, CreateImageVariationRequest of OpenAI's API
# description with what its Python SDK 3.51.0 added; `image` and `images` are the same here.
SHARED = (
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "user", "stream",
    "partial_images", "response_format", "moderation", "complexity", "frame_count", "frame_duration_ms",
    "safety_identifier", "svg",
)  # fmt: skip
SCHEMA: dict[PictureOp, tuple[str, ...]] = {
    "generate": (*SHARED, "style"),
    "edit": (*SHARED, "images", "mask", "markup", "input_fidelity"),
    "variation": ("images", "model", "n", "response_format", "size", "user"),
}
OURS = (
    "negative_prompt", "seed", "steps", "guidance", "aspect_ratio", "resolution", "loras", "watermark", "metadata",
    "provider_options",
)  # fmt: skip

TELLING: Mapping[str, tuple[dict[str, Any], ...]] = {
    "prompt": ({"prompt": "another"}, {"prompt": ""}, {"prompt": "x" * 1_000_000}),
    "model": ({"model": "dall-e-3"}, {"model": "x"}),
    "n": ({"n": 2}, {"n": 10}),
    "size": tuple({"size": size} for size in ("1024x1024", "1792x1024", "256x256", "3840x1000", "2K")),
    "quality": tuple({"quality": q} for q in ("low", "medium", "high", "xhigh", "max", "standard", "hd", "odd")),
    "background": ({"background": "transparent"}, {"background": "transparent", "output_format": "jpeg"}),
    "output_format": tuple({"output_format": name} for name in ("png", "jpeg", "webp", "gif", "svg")),
    "output_compression": tuple({"output_compression": 80, "output_format": f} for f in ("jpeg", "webp", "png", "gif")),
    "user": ({"user": "u"},),
    "stream": ({"stream": True},),
    "partial_images": ({"partial_images": 3, "stream": True}, {"partial_images": 1}),
    "response_format": ({"response_format": "url"}, {"response_format": "url", "stream": True}),
    "moderation": ({"moderation": "low"},),
    "complexity": ({"complexity": "low"},),
    "frame_count": ({"frame_count": 4, "output_format": "gif"}, {"frame_count": 4}),
    "frame_duration_ms": ({"frame_duration_ms": 50, "output_format": "gif"}, {"frame_duration_ms": 50}),
    "safety_identifier": ({"safety_identifier": "s"},),
    "svg": ({"svg": {"model": "m"}, "output_format": "svg"}, {"svg": {"model": "m"}}),
    "style": ({"style": "vivid"}, {"style": "natural"}, {"style": "woodcut"}),
    "images": ({"images": ()},),
    "mask": ({"mask": MASK},),
    "markup": ({"markup": MASK},),
    "input_fidelity": ({"input_fidelity": "high"}, {"input_fidelity": "low"}),
    "negative_prompt": ({"negative_prompt": "dog"},),
    "seed": ({"seed": 7},),
    "steps": ({"steps": 20},),
    "guidance": ({"guidance": 3.5},),
    "aspect_ratio": ({"aspect_ratio": "16:9"}, {"aspect_ratio": "9:21"}),
    "resolution": ({"resolution": "1K"}, {"resolution": "4K"}),
    "loras": ({"loras": (Lora("l"),)},),
    "watermark": ({"watermark": True},),
    "metadata": ({"metadata": {"project": "p"}},),
    "provider_options": ({"provider_options": {"no_such_option": 1}}, {"provider_options": {"lab": {"odd": 1}}}),
}
SENT_AS: Mapping[str, tuple[str, ...]] = {
    "size": ("size", "ratio", "resolution"), "aspect_ratio": ("size", "ratio", "resolution"),
    "resolution": ("size", "resolution"), "output_format": ("format",), "output_compression": ("compression",),
    "partial_images": ("partials",), "input_fidelity": ("fidelity",), "provider_options": ("options",),
    "response_format": ("respond",), "user": ("user", "safety_identifier"),
    "safety_identifier": ("user", "safety_identifier"),
}  # fmt: skip
BY_US = {"metadata", "stream", "model"}
"""Kept with the task; one completed event where the model does not stream; told by the route."""


@each_target
def test_no_field_is_lost_on_the_way(at: Target) -> None:
    for op in [op for op in PICTURE_OPS if op in at.caps.ops]:
        for field in (*SCHEMA[op], *OURS):
            for members in TELLING[field]:
                end = ending(at, op, field, members)
                assert end, f"{op}: {members} has no decision"


def ending(at: Target, op: PictureOp, field: str, members: Mapping[str, Any]) -> str | None:
    """What became of `field`."""
    ask, inputs = asked(at.caps, op, **members)
    if field == "images":
        inputs = Inputs()
    try:
        planned = plan(ask, inputs, at)
    except Fault as fault:
        assert fault.kind == "invalid"
        assert fault.code
        named = (fault.param or "").partition(".")[0].partition("[")[0]
        return "refused" if named in {*members, "image"} else None
    notes = [note for note in planned.notes if note.param == field]
    if notes:
        return notes[0].action
    if sum(job.n for job in planned.jobs) != ask.n:
        return None
    for job in planned.jobs:
        assert_settled(job, at.caps)
    defaults = Job(op=ask.op, model="")
    for member in SENT_AS.get(field, (field,)):
        for struct, default in ((planned.jobs[0], defaults), (planned.finish, type(planned.finish)())):
            if getattr(struct, member, None) != getattr(default, member, None):
                return "sent"
    by_us = field in BY_US or (field == "n" and len(planned.jobs) == ask.n) or (field == "prompt" and not ask.prompt)
    return "by us" if by_us else None


def assert_settled(job: Job, caps: Caps) -> None:
    """What a translator may rely on."""
    assert job.op in caps.ops
    assert 1 <= job.n <= caps.max_n
    assert len(job.prompt) <= caps.prompt_chars
    assert job.size is None or (sizes.is_legal(job.size, caps.free) if caps.free else job.size in caps.sizes)
    assert job.ratio is None or job.ratio in caps.ratios
    assert job.resolution is None or job.resolution in caps.resolutions
    assert not (job.size and job.ratio)
    assert caps.auto_size or job.size or job.ratio
    assert job.format is None or job.format in caps.formats
    assert job.compression is None or (caps.compression and job.format in {"jpeg", "webp"})
    assert job.quality is None or job.quality in caps.qualities
    assert job.background is None or job.background in caps.backgrounds
    assert not job.stream or caps.streams
    assert job.partials <= caps.partials
    assert job.mask is None or caps.mask != "none"
    assert job.markup is None or caps.markup
    assert len(job.images) <= max(caps.max_images, 1)
    assert "*" in caps.options or caps.options.issuperset(job.options)
    for name in ("style", "moderation", "fidelity", "complexity", "frame_count", "frame_duration_ms", "svg", "user",
                 "safety_identifier", "negative_prompt", "seed", "steps", "guidance", "watermark"):  # fmt: skip
        assert getattr(job, name) is None or name in caps.params
    assert not job.loras or "loras" in caps.params


def test_each_field_of_an_ask_has_one_decision() -> None:
    decided = [field for fields, _ in DECISIONS for field in fields] + list(ELSEWHERE)
    assert sorted(decided) == sorted(Ask.__struct_fields__)


def test_each_field_of_a_job_can_be_reached() -> None:
    known = {name for at in TARGETS for name in at.caps.params}
    assert known <= set(Job.__struct_fields__), "params are names of a job's fields"


# --- sizes ---------------------------------------------------------------------------------------------------------

OPENAI_SIZES = (
    "auto", "256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792", "2048x2048",
    "2048x1152", "2560x1440", "3840x2160", "2160x3840", "816x816", "1440x480", "2880x2880",
)  # fmt: skip


def check_size(at: Target, size: str) -> None:
    ask, inputs = asked(at.caps, size=size)
    planned = plan(ask, inputs, at)
    job = planned.jobs[0]
    assert_settled(job, at.caps)
    wished = sizes.parse_size(size)
    if wished is None:
        return
    choice = sizes.Choice(size=job.size, ratio=job.ratio, resolution=job.resolution)
    ratio = sizes.ratio_of(choice)
    notes = [note for note in planned.notes if note.param == "size"]
    if sizes.pixels_of(choice, at.caps) == wished:
        assert not notes
        return
    assert notes, "another size than the one wished for is always named"
    far = ratio is None or sizes.off(ratio, wished[0] / wished[1]) > sizes.CLOSE
    assert notes[0].action == ("noted" if far else "converted")
    if far:
        with pytest.raises(Fault, match="size") as caught:
            plan(ask, inputs, at, strict=True)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "size")


@each_target
def test_openai_sizes(at: Target) -> None:
    for size in OPENAI_SIZES:
        check_size(at, size)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9999), st.integers(1, 9999))
def test_any_size(width: int, height: int) -> None:
    for at in TARGETS:
        check_size(at, f"{width}x{height}")


@pytest.mark.parametrize(
    ("caps", "members", "size", "ratio", "resolution", "notes"),
    [
        (RICH, {"size": "1024x1024"}, (1024, 1024), None, None, []),
        (RICH, {"size": "1000x1000"}, (1008, 1008), None, None, ["size 1000x1000 -> 1008x1008"]),
        (RICH, {"size": "auto"}, None, None, None, []),
        (RICH, {"aspect_ratio": "1:1"}, (1024, 1024), None, None, []),
        (RICH, {"aspect_ratio": "auto", "resolution": "auto"}, None, None, None, []),
        (RICH, {"aspect_ratio": "16:9"}, (1360, 768), None, None, []),
        (RICH, {"resolution": "2K"}, (2048, 2048), None, None, []),
        (RICH, {"resolution": "4K"}, (2880, 2880), None, None, ["resolution 4K -> 2880x2880"]),
        (RICH, {"size": "2K"}, (2048, 2048), None, None, []),
        (RICH, {"size": "1536x1024", "aspect_ratio": "3:2", "resolution": "1K"}, (1536, 1024), None, None,
         ["resolution 1K -> 1536x1024"]),
        (WORDED, {"size": "1024x1024"}, None, "1:1", "1K", []),
        (WORDED, {"size": "1344x768"}, None, "16:9", "1K", []),
        (WORDED, {"size": "1536x1024"}, None, "3:2", "1K", ["size 1536x1024 -> 3:2 at 1K"]),
        (WORDED, {"aspect_ratio": "16:9", "resolution": "2k"}, None, "16:9", "2K", []),
        (WORDED, {"aspect_ratio": "21:9"}, None, "16:9", None, ["aspect_ratio 21:9 -> 16:9"]),
        (WORDED, {"resolution": "4K"}, None, None, "2K", ["resolution 4K -> 2K"]),
        (LISTED, {}, (1024, 1024), None, None, []),
        (LISTED, {"size": "auto"}, (1024, 1024), None, None, ["size auto -> 1024x1024"]),
        (LISTED, {"size": "1792x1024"}, (1536, 1024), None, None, ["size 1792x1024 -> 1536x1024"]),
        (PLAIN, {"size": "1024x1024"}, None, None, None, ["size 1024x1024 -> the model's own"]),
        (PLAIN, {"aspect_ratio": "1:1"}, None, None, None, ["aspect_ratio 1:1 -> the model's own"]),
        (PLAIN, {"resolution": "1K"}, None, None, None, ["resolution 1K -> the model's own"]),
        (PLAIN, {"size": "auto"}, None, None, None, []),
    ],
)  # fmt: skip
def test_size(
    caps: Caps, members: dict[str, Any], size: Any, ratio: str | None, resolution: str | None, notes: list[str]
) -> None:
    planned = made(caps, **members)
    job = planned.jobs[0]
    assert (job.size, job.ratio, job.resolution) == (size, ratio, resolution)
    assert texts(planned) == notes


@pytest.mark.parametrize(
    ("keeps", "op", "images", "masked", "kept"),
    [
        ("edit", "edit", 1, False, True),
        ("edit", "variation", 1, False, False),
        ("edit", "generate", 0, False, False),
        ("variation", "variation", 1, False, True),
        ("mask", "edit", 1, True, True),
        ("mask", "edit", 1, False, False),
        ("single", "edit", 1, False, True),
        ("single", "edit", 2, False, False),
    ],
)
def test_a_picture_that_keeps_its_shape(keeps: Any, op: PictureOp, images: int, masked: bool, kept: bool) -> None:
    caps = replace(WORDED, mask="alpha", keeps=frozenset({keeps}))
    links = tuple(Link("https://x", f"image[{index}]") for index in range(images))
    ask = Ask(op=op, prompt="a", images=links, mask=Link("https://x", "mask") if masked else None, size="1344x768")
    inputs = Inputs(images=(RED,) * images, mask=MASK if masked else None)
    made = plan(ask, inputs, target(caps))
    assert (made.jobs[0].ratio is None) is kept
    assert [note.param for note in made.notes if "keeps its own shape" in note.text] == (["size"] if kept else [])


def test_sizes_that_contradict_each_other() -> None:
    assert refused(RICH, size="1024x1024", aspect_ratio="16:9").param == "aspect_ratio"
    assert refused(RICH, size="1024x1024", resolution="2K").param == "resolution"
    assert refused(RICH, size="1K", resolution="4K").param == "resolution"


# --- the other fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qualities", "said", "got"),
    [
        (("low", "medium", "high"), "standard", "medium"), (("low", "medium", "high"), "hd", "high"),
        (("low", "medium", "high"), "max", "high"), (("low", "medium", "high", "xhigh", "max"), "max", "max"),
        (("low", "medium", "high", "xhigh"), "max", "xhigh"), (("low", "high"), "medium", "low"),
        (("medium", "high"), "low", "medium"), (("standard", "hd"), "low", "standard"),
        (("standard", "hd"), "high", "hd"), (("std", "pro"), "low", "std"), (("std", "pro"), "max", "pro"),
        (("a", "b", "c"), "medium", "b"), (("std", "pro"), "pro", "pro"), (("low",), "auto", None),
    ],
)  # fmt: skip
def test_quality(qualities: tuple[str, ...], said: str, got: str | None) -> None:
    planned = made(replace(PLAIN, qualities=qualities), quality=said)
    assert planned.jobs[0].quality == got
    assert texts(planned) == ([] if said == got or got is None else [f"quality {said} -> {got}"])


def test_unknown_quality() -> None:
    fault = refused(RICH, quality="hihg")
    assert (fault.code, fault.param) == ("invalid_value", "quality")
    assert "'xhigh'" in fault.message
    assert texts(made(PLAIN, quality="high")) == ["quality high left out"]
    assert refused(PLAIN, quality="high", strict=True).param == "quality"


def test_background() -> None:
    transparent = made(RICH, background="transparent")
    assert (transparent.jobs[0].background, transparent.jobs[0].format) == ("transparent", "png")
    assert made(RICH, background="transparent", output_format="webp").jobs[0].format == "webp"
    fault = refused(RICH, background="transparent", output_format="jpeg")
    assert fault.message == "Transparent background is not supported for JPEG output format"
    assert refused(RICH, background="transparent", output_format="gif").param == "background"
    assert refused(PLAIN, background="transparent").message == "Transparent background is not supported for this model."
    assert made(PLAIN, background="opaque", strict=True).jobs[0].background is None
    only_png = replace(PLAIN, backgrounds=("transparent",), formats=("jpeg", "png"))
    planned = made(only_png, background="transparent", output_format="webp")
    assert (planned.jobs[0].format, planned.finish.format) == ("png", "webp")


def test_formats() -> None:
    assert made(RICH, output_format="jpeg").jobs[0].format == "jpeg"
    assert made(RICH, output_format="jpeg").finish.format == "jpeg"
    planned = made(LISTED, output_format="webp")
    assert (planned.jobs[0].format, planned.finish.format) == (None, "webp")
    assert made(PLAIN).finish.format is None
    assert made(RICH, output_format="svg").finish.format is None
    fault = refused(PLAIN, output_format="svg")
    assert fault.message == "Invalid value: 'svg'. Supported values are: 'jpeg', 'png', and 'webp'."


def test_compression() -> None:
    on_wire = made(RICH, output_format="jpeg", output_compression=50)
    assert (on_wire.jobs[0].compression, on_wire.finish.compression) == (50, None)
    by_us = made(LISTED, output_format="jpeg", output_compression=50)
    assert (by_us.jobs[0].compression, by_us.finish.compression) == (None, 50)
    assert made(RICH, output_compression=100).jobs[0].compression is None
    for name in (None, "png", "gif"):
        assert refused(RICH, output_compression=50, output_format=name).param == "output_compression"


def test_svg_and_gif() -> None:
    assert refused(RICH, output_format="svg", n=2).param == "n"
    assert refused(RICH, output_format="svg", stream=True).param == "stream"
    assert refused(RICH, output_format="gif", partial_images=1, stream=True).param == "stream"
    assert refused(RICH, output_format="png", frame_count=3).param == "frame_count"
    assert refused(RICH, svg={"model": "m"}).param == "svg"
    assert refused(RICH, "edit", output_format="gif", mask=MASK).param == "mask"
    gif = made(RICH, output_format="gif", frame_count=3, frame_duration_ms=50).jobs[0]
    assert (gif.format, gif.frame_count, gif.frame_duration_ms) == ("gif", 3, 50)


def test_streams() -> None:
    real = made(replace(RICH, partials=1), stream=True, partial_images=3)
    assert (real.jobs[0].stream, real.jobs[0].partials) == (True, 1)
    assert texts(real) == ["partial_images 3 -> 1"]
    emulated = made(PLAIN, stream=True, partial_images=2)
    assert (emulated.jobs[0].stream, emulated.jobs[0].partials) == (False, 0)
    assert texts(emulated) == ["partial_images 2 -> 0"]
    assert made(PLAIN, stream=True, strict=True).notes == ()
    assert texts(made(RICH, partial_images=2)) == ["partial_images left out without stream"]


@pytest.mark.parametrize(
    ("model", "said", "stream", "respond"),
    [
        ("dall-e-3", None, False, "url"), ("dall-e-2", None, False, "url"), ("openai/dall-e-2", None, False, "url"),
        ("dall-e-3", "b64_json", False, "b64_json"), ("dall-e-3", None, True, "b64_json"),
        ("gpt-image-2", None, False, "b64_json"), ("gpt-image-2", "url", False, "url"), (None, None, False, "b64_json"),
        ("gpt-image-2", "url", True, "b64_json"),
    ],
)  # fmt: skip
def test_how_it_is_handed_over(model: str | None, said: str | None, stream: bool, respond: str) -> None:
    planned = made(PLAIN, model=model, response_format=said, stream=stream)
    assert planned.finish.respond == respond
    assert bool(planned.notes) == (said == "url" and stream)


def test_who_asks() -> None:
    both = made(RICH, user="u", safety_identifier="s").jobs[0]
    assert (both.user, both.safety_identifier) == (None, "s")
    assert made(RICH, user="u", safety_identifier="").jobs[0].user == "u"
    users = replace(PLAIN, params=frozenset({"user"}))
    planned = made(users, safety_identifier="s", strict=True)
    assert planned.jobs[0].user == "s"
    assert texts(planned) == ["safety_identifier sent as user"]
    assert texts(made(PLAIN, user="u")) == ["user left out"]


def test_what_a_model_takes_or_leaves() -> None:
    said: dict[str, Any] = {
        "seed": 7,
        "steps": 5,
        "guidance": 0.0,
        "watermark": False,
        "negative_prompt": "x",
        "moderation": "low",
    }
    job = made(RICH, **said).jobs[0]
    assert {name: getattr(job, name) for name in said} == said
    planned = made(PLAIN, **said)
    assert sorted(note.param for note in planned.notes) == sorted(said)
    assert made(PLAIN, moderation="auto", strict=True).notes == ()
    assert made(RICH, "edit", input_fidelity="high").jobs[0].fidelity == "high"
    assert texts(made(RICH, input_fidelity="high")) == ["input_fidelity left out without an image"]
    assert made(RICH, style="woodcut").jobs[0].style == "woodcut"
    assert texts(made(PLAIN, style="vivid")) == ["style left out"]
    assert refused(PLAIN, style="woodcut").code == "invalid_value"
    assert refused(PLAIN, loras=(Lora("l"),)).param == "loras"
    assert made(RICH, loras=(Lora("l"),)).jobs[0].loras == (Lora("l"),)


def test_prompt() -> None:
    fault = refused(replace(PLAIN, prompt_chars=4))
    assert fault.code == "string_above_max_length"
    assert "maximum length 4, but got a string with length 5" in fault.message
    assert refused(PLAIN, "edit", prompt="").code == "missing_required_parameter"
    assert made(PLAIN, "variation").jobs[0].prompt == ""
    assert made(INPAINTS).jobs[0].prompt == ""
    assert texts(made(INPAINTS, prompt="a cat")) == ["prompt left out"]


def test_operations() -> None:
    only = replace(PLAIN, ops=frozenset({"edit"}))
    fault = refused(only, "generate", model="x")
    assert (fault.code, fault.param) == ("invalid_value", "model")
    assert fault.message == "The model 'x' does not make images from text alone; it needs an image."
    assert "variations" in refused(only, "variation").message
    assert "edits" in refused(replace(PLAIN, ops=frozenset({"generate"})), "edit").message


def test_references_on_a_generation_are_an_edit() -> None:
    ask = Ask(op="generate", prompt="a", images=(Link("https://x", "image_urls[0]"),))
    job = plan(ask, Inputs(images=(RED,)), target(RICH)).jobs[0]
    assert (job.op, job.images, job.mask) == ("edit", (RED,), None)
    with pytest.raises(Fault, match="references"):
        plan(ask, Inputs(images=(RED,)), target(replace(RICH, ops=frozenset({"generate"}))))
    many = replace(ask, images=ask.images * 2)
    with pytest.raises(Fault) as caught:
        plan(many, Inputs(images=(RED, RED)), target(replace(RICH, max_images=1)))
    assert (caught.value.code, caught.value.param) == ("array_above_max_length", "image_urls")


def test_pictures() -> None:
    two = replace(RICH, min_images=2, max_images=2)
    one = Ask(op="edit", prompt="a", images=(Link("https://x", "image[0]"),))
    with pytest.raises(Fault) as caught:
        plan(one, Inputs(images=(RED,)), target(two))
    assert (caught.value.code, caught.value.param) == ("array_below_min_length", "image")
    with pytest.raises(Fault) as caught:
        plan(replace(one, images=()), Inputs(), target(RICH))
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "image")
    masked = made(RICH, "edit", mask=MASK).jobs[0]
    assert (masked.mask, masked.markup) == (MASK, None)
    assert made(RICH, "edit", markup=MASK).jobs[0].markup is MASK
    assert refused(PLAIN, "edit", mask=MASK).param == "mask"
    assert refused(PLAIN, "edit", markup=MASK).param == "markup"
    assert refused(RICH, "edit", mask=MASK, markup=MASK).param == "markup"
    fault = refused(INPAINTS, "edit", mask=None)
    assert (fault.code, fault.param) == ("missing_required_parameter", "mask")


def test_n_is_split_into_calls() -> None:
    assert [job.n for job in made(RICH, n=10).jobs] == [4, 4, 2]
    assert [job.n for job in made(PLAIN, n=3).jobs] == [1, 1, 1]
    assert [job.n for job in made(RICH, n=4).jobs] == [4]


def test_calls_of_one_request_have_seeds_of_their_own() -> None:
    seeded = replace(PLAIN, params=frozenset({"seed"}))
    planned = made(seeded, n=3, seed=7)
    assert [job.seed for job in planned.jobs] == [7, 8, 9]
    assert texts(planned) == ["seed 7 -> 7, 8, 9"]
    assert [job.seed for job in made(seeded, n=3, seed=2**31 - 1).jobs] == [2**31 - 1 - step for step in range(3)]
    assert [job.seed for job in made(seeded, n=2, seed=2**63 - 1).jobs] == [2**63 - 1, 2**63 - 2]
    assert [job.seed for job in made(seeded, n=2, seed=-1).jobs] == [-1, -1]
    assert [job.seed for job in made(replace(RICH, max_n=2), n=4, seed=7).jobs] == [7, 9]
    assert made(seeded, n=1, seed=7).notes == ()


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"raw": True}, {"raw": True}),
        ({"lab": {"raw": True}}, {"raw": True}),
        ({"raw": 1, "mode": 2, "lab": {"raw": 3}}, {"raw": 3, "mode": 2}),
        ({"bfl": {"odd": 1}, "other": {"odd": 1}, "lab": {"mode": 1}}, {"mode": 1}),
    ],
)
def test_options(given: dict[str, Any], got: dict[str, Any]) -> None:
    ask, inputs = asked(RICH, provider_options=given)
    first, _ = plans(ask, inputs, (target(RICH), target(replace(RICH, options=frozenset({"*"})), "other")))
    assert first.jobs[0].options == got


def test_unknown_options_are_refused() -> None:
    fault = refused(RICH, provider_options={"lab": {"odd": 1}})
    assert (fault.code, fault.param) == ("unknown_parameter", "provider_options.odd")
    assert "'mode' and 'raw'" in fault.message
    assert "none" in refused(PLAIN, provider_options={"odd": 1}).message
    assert refused(RICH, provider_options={"lab": 1}).code == "invalid_type"
    anything = replace(PLAIN, options=frozenset({"*"}))
    assert made(anything, provider_options={"odd": {"deep": 1}}).jobs[0].options == {"odd": {"deep": 1}}


def test_only_targets_that_can() -> None:
    ask, inputs = asked(RICH, background="transparent")
    able = plans(ask, inputs, (target(PLAIN, "a"), target(RICH, "b"), target(RICH, "c")))
    assert [planned.target.upstream.name for planned in able] == ["b", "c"]
    with pytest.raises(Fault, match="Transparent"):
        plans(ask, inputs, (target(PLAIN, "a"), target(INPAINTS, "b")))


def test_what_is_about_the_target() -> None:
    job = made(RICH).jobs[0]
    assert (job.model, job.site) == ("m", {"region": "x"})


def test_ops_are_the_contracts() -> None:
    assert set(get_args(Op)) >= ALL_OPS
