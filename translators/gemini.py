"""Google's Gemini API: native image models by `generateContent`, Imagen by `predict`; base64 at once, no polling.

A native model makes one picture per call; it stands among the parts of a candidate, drafts (`thought`) before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from translators.base import (
    Call,
    Caps,
    Done,
    Event,
    Fault,
    Job,
    Op,
    Output,
    Partial,
    Price,
    Provider,
    Reply,
    Secret,
    Size,
    Stamp,
    base64,
    bearer,
    header,
    prompted,
)
from translators.google import (
    AT_1K,
    AT_2_5,
    FOURTEEN,
    TEN,
    answer_in,
    counted,
    fault_in,
    pictures,
    pixels,
    predicted,
    spent,
    worded,
)

PROVIDER = Provider(
    title="Google Gemini",
    env={"api_key": "GEMINI_API_KEY"},
    docs="https://ai.google.dev/gemini-api/docs/image-generation",
)

MAKES: frozenset[Op] = frozenset({"generate"})
NATIVE: frozenset[Op] = frozenset({"generate", "edit", "variation"})

FIVE = ("1:1", "3:4", "4:3", "9:16", "16:9")

IMAGEN_1K: dict[str, Size] = {
    "1:1": (1024, 1024), "3:4": (896, 1280), "4:3": (1280, 896), "9:16": (768, 1408), "16:9": (1408, 768),
}  # fmt: skip


def tokens(given: float, text: float, image: float) -> tuple[Price, ...]:
    """Prices per million tokens: what goes in, what comes out as text (thoughts too), and as pictures."""
    return (
        Price(unit="token.text.in", amount=given, per=1_000_000),
        Price(unit="token.image.in", amount=given, per=1_000_000),
        Price(unit="token.text.out", amount=text, per=1_000_000),
        Price(unit="token.image.out", amount=image, per=1_000_000),
    )


GEMINI_3 = Caps(
    ops=NATIVE,
    prompt_chars=100_000,  # 131,072 tokens, pictures included
    ratios=FOURTEEN,
    resolutions=("1K", "2K", "4K"),
    pixels_of=pixels(AT_1K, FOURTEEN, ("1K", "2K", "4K")),
    max_images=14,
    streams=True,
    partials=2,  # drafts of the thinking, at most two
    params=frozenset({"seed", "moderation"}),
    options=frozenset({"safetySettings", "systemInstruction", "thinkingConfig", "tools"}),
    tokens="nano-banana",
)
IMAGEN = Caps(
    ops=MAKES,
    max_n=4,
    prompt_chars=4_000,  # documented as 480 tokens, which nobody counts here
    ratios=FIVE,
    resolutions=("1K", "2K"),
    pixels_of=pixels(IMAGEN_1K, FIVE, ("1K", "2K")),
    formats=("png", "jpeg"),
    compression=True,
    params=frozenset({"guidance"}),
    options=frozenset({"personGeneration", "safetySetting", "includeSafetyAttributes", "language"}),
)
ONE_SIZE = {"resolutions": (), "pixels_of": IMAGEN_1K}  # of Imagen models that take no size


def changed(caps: Caps, **changes: Any) -> Caps:
    """`caps` with those members."""
    return msgspec.structs.replace(caps, **changes)


CURRENT = "gemini-nano-banana-2.1"

MODELS: Mapping[str, Caps] = {
    CURRENT: changed(
        GEMINI_3,
        qualities=("low", "medium", "high"),  # the level of thinking
        prices=tokens(1.5, 7.5, 30),
        note="Nano Banana 2.1. Quality sets how much it thinks first.",
    ),
    "gemini-3-pro-image": changed(
        GEMINI_3,
        ratios=TEN,
        pixels_of=pixels(AT_1K, TEN, ("1K", "2K", "4K")),
        prices=tokens(2, 12, 120),
        note="Nano Banana Pro. Always thinks; five of its fourteen references are kept in high fidelity.",
    ),
    "gemini-3.1-flash-image": changed(
        GEMINI_3,
        resolutions=("512", "1K", "2K", "4K"),
        pixels_of=pixels(AT_1K, FOURTEEN, ("512", "1K", "2K", "4K")),
        qualities=("low", "high"),
        prices=tokens(0.5, 3, 60),
        # Announced by third parties only, so it is not in `ends`.
        note="Nano Banana 2. May be switched off since 2026-10-29: gemini-nano-banana-2.1 takes its place.",
    ),
    "gemini-3.1-flash-lite-image": changed(
        GEMINI_3,
        prompt_chars=50_000,
        resolutions=("1K",),
        pixels_of=pixels(AT_1K, FOURTEEN, ("1K",)),
        partials=0,
        options=GEMINI_3.options - {"thinkingConfig"},
        prices=tokens(0.25, 1.5, 30),
    ),
    "gemini-2.5-flash-image": changed(
        GEMINI_3,
        prompt_chars=32_000,
        ratios=TEN,
        resolutions=(),
        pixels_of=AT_2_5,
        max_images=3,
        partials=0,
        options=frozenset({"safetySettings", "systemInstruction"}),
        prices=tokens(0.3, 2.5, 30),
        ends="2026-10-02",
        note="Nano Banana. gemini-nano-banana-2.1 takes its place.",
    ),
    "imagen-4.0-generate-001": changed(IMAGEN, prices=(Price(unit="image", amount=0.04),), ends="2026-08-17"),
    "imagen-4.0-ultra-generate-001": changed(IMAGEN, prices=(Price(unit="image", amount=0.06),), ends="2026-08-17"),
    "imagen-4.0-fast-generate-001": changed(
        IMAGEN, prices=(Price(unit="image", amount=0.02),), ends="2026-08-17", **ONE_SIZE
    ),
    "imagen-3.0-generate-002": changed(
        IMAGEN, prices=(Price(unit="image", amount=0.03),), note="Retired: few accounts still have it.", **ONE_SIZE
    ),
}
ALSO = {"nano-banana-pro-preview": "gemini-3-pro-image"}  # names that the service takes, too

CLASSIC = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")  # the Gemini API refuses others
LEVELS = {"low": "MINIMAL", "medium": "MEDIUM", "high": "HIGH"}
TOP_LEVEL = ("safetySettings", "systemInstruction", "tools", "labels")
IN_IMAGE_CONFIG = ("personGeneration", "prominentPeople")
IN_PARAMETERS = (
    "personGeneration", "safetySetting", "includeSafetyAttributes", "language", "enhancePrompt", "editMode",
)  # fmt: skip


def base(site: Mapping[str, str]) -> str:
    return "https://generativelanguage.googleapis.com/v1beta"


def caps(model: str) -> Caps | None:
    return MODELS.get(ALSO.get(model, model))


def start(job: Job) -> Call:
    return ask(job, f"/models/{job.model}")


def ask(job: Job, path: str) -> Call:
    """The call for `job` to the model at `path`."""
    if job.model.startswith("imagen"):
        return Call(path=f"{path}:predict", json=predict_body(job))
    if job.stream:
        return Call(path=f"{path}:streamGenerateContent", query={"alt": "sse"}, json=native_body(job), read="events")
    return Call(path=f"{path}:generateContent", json=native_body(job))


def native_body(job: Job) -> dict[str, Any]:
    """`generateContent`'s body: pictures first, then the text."""
    prompt = prompted(job)
    parts: list[dict[str, Any]] = [
        {"inlineData": {"mimeType": image.type, "data": base64(image)}} for image in job.images
    ]
    # Asked for pictures alone, a model does not answer with an excuse in words.
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    if image := image_config(job):
        config["imageConfig"] = image
    if job.seed is not None:
        config["seed"] = job.seed
    if thinking := thinking_config(job):
        config["thinkingConfig"] = thinking
    body: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [*parts, {"text": prompt}]}],
        "generationConfig": config,
    }
    if job.moderation == "low":
        body["safetySettings"] = [
            {"category": f"HARM_CATEGORY_{name}", "threshold": "BLOCK_ONLY_HIGH"} for name in CLASSIC
        ]
    return body | chosen(job, TOP_LEVEL)


def image_config(job: Job) -> dict[str, Any]:
    """`imageConfig`; empty where nothing was asked for."""
    config = chosen(job, IN_IMAGE_CONFIG)
    if job.ratio:
        config["aspectRatio"] = job.ratio
    if job.resolution:
        config["imageSize"] = job.resolution
    if output := output_options(job):
        config["imageOutputOptions"] = output
    return config


def thinking_config(job: Job) -> dict[str, Any]:
    """How much it thinks, by `quality`; drafts are shown where previews are wanted. The client's own words win."""
    config: dict[str, Any] = {}
    if job.quality:
        config["thinkingLevel"] = LEVELS[job.quality]
    if job.stream and job.partials:
        config["includeThoughts"] = True
    return config | dict(job.options.get("thinkingConfig", {}))


def output_options(job: Job) -> dict[str, Any]:
    """The format of the picture, where the API lets it be chosen."""
    options: dict[str, Any] = {"mimeType": f"image/{job.format}"} if job.format else {}
    if job.format == "jpeg" and job.compression is not None:
        options["compressionQuality"] = job.compression
    return options


def predict_body(job: Job) -> dict[str, Any]:
    """Imagen's body for a picture from text."""
    return {"instances": [{"prompt": job.prompt}], "parameters": predict_parameters(job)} | chosen(job, ("labels",))


def predict_parameters(job: Job) -> dict[str, Any]:
    """What all of Imagen's calls share."""
    asked = {
        "aspectRatio": job.ratio,
        "sampleImageSize": job.resolution,
        "guidanceScale": job.guidance,
        "negativePrompt": job.negative_prompt,
        "seed": job.seed,
        "addWatermark": job.watermark,
        "safetySetting": "BLOCK_ONLY_HIGH" if job.moderation == "low" else None,
        "outputOptions": output_options(job) or None,
    }
    if job.seed is not None:
        if job.watermark:
            raise Fault("invalid", "This model takes a seed only without a watermark.", param="seed")
        asked["addWatermark"] = False
    # Without the reason, a filtered picture is missing without a word.
    parameters: dict[str, Any] = {"sampleCount": job.n, "includeRaiReason": True}
    parameters |= {name: value for name, value in asked.items() if value is not None}
    return parameters | chosen(job, IN_PARAMETERS)


def chosen(job: Job, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of `provider_options` that stand in one place of the body."""
    return {name: job.options[name] for name in names if name in job.options}


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    if secret.kind == "bearer":
        return bearer(call, secret, stamp)
    return header(call, "x-goog-api-key", secret.key)


def check(reply: Reply) -> None:
    if fault := fault_in(reply):
        raise worded(fault, retired(reply)) if fault.kind == "missing" else fault


def retired(reply: Reply) -> str:
    """What to tell who asked for a model that is not there: most were, once."""
    return "" if f"/{CURRENT}:" in reply.call.path else f"Google may have retired it; {CURRENT} is the current model."


def step(job: Job, reply: Reply) -> Done:
    answer = answer_in(reply)
    if reply.call.path.endswith(":predict"):
        return predicted(job, answer, reply)
    made = pictures(answer, reply)
    final = [blob for draft, blob in made if not draft] or [blob for _, blob in made]
    if not final:
        text = f"Google made no picture. {answer.words}".strip()
        raise Fault("empty", text, code="NO_IMAGE", usage=spent(answer.usage_metadata))
    output = Output(blob=final[-1], extra={"text": answer.words} if answer.words else {})
    return Done(outputs=(output,), usage=counted(answer.usage_metadata))


def event(job: Job, reply: Reply) -> Iterator[Event]:
    """A picture comes whole, in one event; the count is complete where the reason for the end stands."""
    answer = answer_in(reply)
    drafts = 0
    for draft, blob in pictures(answer, reply):
        if not draft:
            yield Output(blob=blob)
        elif job.partials:
            yield Partial(drafts, Output(blob=blob))
            drafts += 1
    if answer.usage_metadata and any(candidate.finish_reason for candidate in answer.candidates):
        yield counted(answer.usage_metadata)
