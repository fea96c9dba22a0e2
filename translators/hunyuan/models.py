"""What Tencent's image models can do, and what its error codes mean, as data.

Models with a small name are TokenHub's; those with a name in capitals are actions of Tencent Cloud's signed API.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from msgspec.structs import replace

from translators.base import Caps, FaultKind, Free, Op, Price, Size
from translators.volcengine import SEEDREAM_5_FLASH, SEEDREAM_5_LITE, SEEDREAM_5_PRO

MAKES: frozenset[Op] = frozenset({"generate", "edit", "variation"})
DRAWS: frozenset[Op] = frozenset({"generate"})
CHANGES: frozenset[Op] = frozenset({"edit", "variation"})
EDITS: frozenset[Op] = frozenset({"edit"})
MEGAPIXEL = 1024 * 1024
PNG_OR_JPEG = ("image/png", "image/jpeg")
LOGO = frozenset({"LogoParam"})
WATERMARK = frozenset({"watermark"})
NEGATIVE = WATERMARK | {"negative_prompt"}
SQUARISH: tuple[Size, ...] = ((768, 768), (768, 1024), (1024, 768), (1024, 1024))
EIGHT: tuple[Size, ...] = (*SQUARISH, (720, 1280), (1280, 720), (768, 1280), (1280, 768))
FULL_HD: tuple[Size, ...] = ((1080, 1920), (1920, 1080))
LONG = (160, 200, 225, 258, 512, 520, 608, 768, 1024, 1080, 1280, 1600, 1620, 1920, 2048, 2400, 2560, 2592, 3440,
        3840, 4096)  # fmt: skip
SHAPES = ((1, 1), (3, 4), (4, 3), (9, 16), (16, 9))
LISTED: tuple[Size, ...] = tuple(
    (long * wide // max(wide, high), long * high // max(wide, high))
    for long in LONG
    for wide, high in SHAPES
    if long % (max(wide, high) // gcd(max(wide, high), min(wide, high))) == 0
)
"""The documented ratios by the documented lengths of the longer edge, where both edges come out even."""


def yuan(amount: float, pixels: tuple[int, int] = (0, 0)) -> Price:
    return Price(unit="image", amount=amount, currency="CNY", pixels=pixels)


def dollars(amount: float) -> tuple[Price, ...]:
    return (Price(unit="image", amount=amount),)


def base64_bytes(limit: int) -> int:
    """The largest file of which so many bytes of base64 are made."""
    return limit * 3 // 4


V3 = Caps(
    ops=MAKES,
    prompt_chars=8192,
    # Its presets are multiples of 16, although any size in bounds is said to be legal.
    free=Free(step=16, pixels=(0, MEGAPIXEL), edge=(512, 2048)),
    max_images=3,
    input_types=PNG_OR_JPEG,
    input_bytes=10_000_000,
    params=frozenset({"seed"}),
    options=frozenset({"revise", "footnote"}),
    note="HY-Image 3.0. Rewrites the prompt, unless the option revise is false, or a seed is given.",
)
V3_JOB = replace(
    V3,
    params=WATERMARK | {"seed"},
    options=frozenset({"revise", "logo_param"}),
    note="HY-Image 3.0 as a job; hy-image-v3 has taken its place.",
)
ERASE = Caps(
    ops=EDITS,
    prompt_chars=0,
    max_images=1,
    input_types=(*PNG_OR_JPEG, "image/bmp", "image/tiff", "image/webp"),
    input_bytes=base64_bytes(6_000_000),
    input_edge=(0, 4999),
    mask="white-edits",
    mask_required=True,
    params=WATERMARK,
    options=LOGO,
    note="Erases what the mask opens; takes no prompt.",
)
LITE = Caps(
    ops=DRAWS,
    prompt_chars=256,
    sizes=(*EIGHT, *FULL_HD),
    params=NEGATIVE,
    options=LOGO | {"Style"},
    prices=(yuan(0.099),),
    note="768x768 where no size is asked for.",
)
GONE = "Not in the vendor's kit any more: for older accounts."

TOKENHUB: Mapping[str, Caps] = {
    "hy-image-v3.5-preview": Caps(
        ops=MAKES,
        prompt_chars=100_000,
        free=Free(pixels=(0, 16 * MEGAPIXEL), edge=(256, 8192)),
        resolutions=("1K", "1.5K", "2K", "4K"),
        max_images=20,
        input_types=PNG_OR_JPEG,
        input_bytes=20_000_000,
        params=frozenset({"seed"}),
        options=frozenset({"footnote", "resize_max_pixels", "session", "use_search_tool"}),
        prices=(yuan(0.15, (0, 4 * MEGAPIXEL)), yuan(0.20, (4 * MEGAPIXEL, 0))),
        note="Every picture carries a mark; the option footnote is its text.",
    ),
    "hy-image-v3": V3,
    "hy-image-v3.0": V3_JOB,
    "hy-image-lite": Caps(
        ops=DRAWS,
        prompt_chars=1024,
        sizes=(*(size for size in EIGHT if size not in {(768, 1280), (1280, 768)}), *FULL_HD),
        params=NEGATIVE | {"seed"},
        options=frozenset({"logo_param"}),
    ),
    "seedream-image-v5.0-pro": replace(
        SEEDREAM_5_PRO,
        prompt_chars=600,
        ratios=(),
        pixels_of={},
        params=frozenset(),
        options=frozenset({"layer_decomposition"}),
        prices=dollars(0.09),
    ),
    "seedream-image-v5.0-flash": replace(
        SEEDREAM_5_FLASH,
        prompt_chars=600,
        ratios=(),
        pixels_of={},
        params=frozenset(),
        options=frozenset(),
        prices=dollars(0.018),
    ),
    "seedream-image-v5.0-lite": replace(
        SEEDREAM_5_LITE,
        prompt_chars=600,
        ratios=(),
        pixels_of={},
        streams=False,
        params=frozenset(),
        options=frozenset(),
        prices=dollars(0.035),
    ),
}
CLOUD: Mapping[str, Caps] = {
    "SubmitHunyuanImageJob": Caps(
        ops=MAKES,
        max_n=4,
        prompt_chars=1024,
        sizes=EIGHT,
        max_images=1,
        input_types=PNG_OR_JPEG,
        input_bytes=base64_bytes(8_000_000),
        input_edge=(0, 4999),
        params=NEGATIVE | {"seed"},
        options=LOGO | {"Style", "Clarity", "Revise"},
        prices=(yuan(0.5),),
        note="With a picture, one of 768x768, 768x1024, 1024x768 and 1024x1024. Clarity x2 or x4 enlarges.",
    ),
    "SubmitHunyuanImageChatJob": Caps(
        ops=DRAWS,
        prompt_chars=1024,
        params=WATERMARK,
        options=LOGO | {"ChatId"},
        note="Each answer tells a ChatId, with which the next prompt changes the picture.",
    ),
    "TextToImageLite": LITE,
    "SubmitTextToImageJob": replace(
        V3_JOB,
        input_types=ERASE.input_types,
        input_bytes=base64_bytes(6_000_000),
        input_edge=(50, 5000),
        options=LOGO | {"Revise"},
        prices=(yuan(0.2),),
        note=f"HY-Image 3.0. {GONE} hy-image-v3 has taken its place.",
    ),
    "SubmitTextToImageProJob": Caps(
        ops=DRAWS,
        prompt_chars=100,
        sizes=EIGHT,
        params=WATERMARK,
        options=LOGO | {"Style", "Engine", "Revise"},
        note="HY-Image 2.0.",
    ),
    "TextToImageRapid": Caps(
        ops=MAKES,
        prompt_chars=256,
        sizes=LISTED,
        max_images=1,
        input_types=ERASE.input_types,
        input_bytes=6_000_000,
        input_edge=(129, 2047),
        params=WATERMARK | {"seed"},
        options=LOGO | {"Style"},
        note=f"With a picture, its size is kept. {GONE}",
    ),
    "aiart/TextToImageLite": Caps(
        ops=DRAWS,
        prompt_chars=1024,
        sizes=LISTED,
        params=NEGATIVE | {"seed"},
        options=LOGO,
        note=GONE,
    ),
    "ImageToImage": Caps(
        ops=CHANGES,
        prompt_chars=256,
        sizes=SQUARISH[:3],
        max_images=1,
        input_types=ERASE.input_types,
        input_bytes=base64_bytes(8_000_000),
        input_edge=(51, 4999),
        params=NEGATIVE,
        options=LOGO | {"Styles", "Strength", "EnhanceImage", "RestoreFace"},
        note=f"Style transfer; Japanese animation where Styles names no other. {GONE}",
    ),
    "ImageInpaintingRemoval": ERASE,
    "ImageOutpainting": replace(
        ERASE,
        mask="none",
        mask_required=False,
        ratios=("16:9", "4:3", "1:1", "3:4", "9:16"),
        note="Fills a picture up to another ratio, which must be given; takes no prompt.",
    ),
    "ReplaceBackground": replace(
        ERASE,
        prompt_chars=256,
        inputs="url",
        mask="alpha",
        mask_required=False,
        free=Free(edge=(501, 3999), ratio=2.5),
        input_edge=(0, 3999),
        params=NEGATIVE,
        options=LOGO | {"Product", "BackgroundTemplate"},
        note="A new background for a product, which the option Product should name. 1280x1280 where no size is said.",
    ),
    "RefineImage": replace(
        ERASE,
        mask="none",
        mask_required=False,
        input_edge=(0, 0),
        params=frozenset(),
        options=frozenset(),
        note="Makes a picture larger and clearer; takes no prompt.",
    ),
}
MODELS: Mapping[str, Caps] = {**TOKENHUB, **CLOUD}

KINDS: Mapping[str, FaultKind] = {
    "AuthFailure": "auth",
    "AuthFailure.UnauthorizedOperation": "permission",
    "UnauthorizedOperation": "permission",
    "FailedOperation.ServiceNotActivated": "permission",
    "FailedOperation.UserUnAuthError": "permission",
    "FailedOperation.PartnerAccountUnSupport": "permission",
    "FailedOperation.ServiceStop": "permission",
    "ResourceUnavailable.NotExist": "permission",
    "ResourceUnavailable.StopUsing": "permission",
    "FailedOperation.FreeResourcePackExhausted": "quota",
    "FailedOperation.ResourcePackExhausted": "quota",
    "FailedOperation.ServiceStopArrears": "quota",
    "FailedOperation.SetPayModeExceed": "quota",
    "ResourceUnavailable.InArrears": "quota",
    "ResourceUnavailable.LowBalance": "quota",
    "ResourceInsufficient": "quota",
    "ResourcesSoldOut": "quota",
    "RequestLimitExceeded": "rate",  # as is .JobNumExceed: too many jobs run
    "LimitExceeded": "rate",
    "FailedOperation.EngineServerLimitExceeded": "rate",
    "InvalidParameter": "invalid",
    "InvalidParameterValue": "invalid",
    "MissingParameter": "invalid",
    "UnknownParameter": "invalid",
    "UnsupportedRegion": "invalid",
    "FailedOperation.DownloadError": "invalid",
    "FailedOperation.ImageDecodeFailed": "invalid",
    "FailedOperation.ImageDownloadError": "invalid",
    "FailedOperation.ImageResolutionExceed": "invalid",
    "FailedOperation.ImageSizeExceed": "invalid",
    "FailedOperation.RequestEntityTooLarge": "invalid",
    "OperationDenied": "policy",
    "FailedOperation.GenerateImageFailed": "policy",  # the made picture did not pass
    "FailedOperation.ModerationFailed": "policy",
    "FailedOperation.JobNotExist": "missing",
    "ResourceNotFound": "missing",
    "InvalidAction": "missing",
    "ActionOffline": "missing",
    "FailedOperation.RequestTimeout": "timeout",
    "FailedOperation.EngineRequestTimeout": "timeout",
    "ResourceUnavailable.Delivering": "overloaded",
    "InternalError": "upstream",
    "FailedOperation": "upstream",
}
"""By the whole code, else by what stands before its dot."""
