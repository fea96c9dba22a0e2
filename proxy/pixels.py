"""The only place where a picture is decoded: conversion, scaling to a provider's limits, masks. In its own threads.

Everything below `Pixels` is a plain function. A fault is the client's where `param` names one of its pictures, and
the provider's where `param` is `None`.
"""

from __future__ import annotations

import asyncio
import io
import math
import operator
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import msgspec
from PIL import Image, ImageOps

from proxy.plan import Note
from proxy.sniff import Shape, first, look
from translators.base import Blob, Caps, Fault, Job, MaskRule, Media, Size, blob

BOUND = 64_000_000  # pixels; four bytes each while one is converted
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "TIFF")  # that are decoded; of an animation, the first frame
WRITES = ("png", "jpeg", "webp")  # that can be made

# Measured at 2048x2048 on one core, photo-like / drawing. PNG level 1: 179 ms, 3.5 MB / 58 ms, 0.16 MB; 2: 188, 3.3 /
# 59, 0.16; 3: 246, 3.0 / 59, 0.16; 6: 629, 2.8 / 76, 0.09. WebP q90 method 0: 79 ms, 0.34 MB / 67, 0.20; 2: 118,
# 0.30 / 80, 0.18; 4: 279, 0.31 / 168, 0.17. JPEG: 12 ms at each quality; q95 0.66 MB, q100 1.23 MB.
PNG_LEVEL = 1
WEBP_METHOD = 2
QUALITY = 95  # where none is asked for; OpenAI's default of 100 doubles the bytes for nothing that is seen

Image.MAX_IMAGE_PIXELS = None  # our own bound is checked, before each decode; Pillow's would only warn

P = ParamSpec("P")
T = TypeVar("T")


class Pixels:
    """The threads in which pictures are converted: as many as there are cores, so that waiting ones cost no memory."""

    def __init__(self, threads: int | None = None, bound: int = BOUND) -> None:
        self.bound = bound
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, "pixels")

    async def transcode(
        self, picture: Blob, to: str, compression: int | None = None, background: str | None = None
    ) -> Blob:
        """See `transcode`."""
        return await self.aside(transcode, picture, to, compression, background, bound=self.bound)

    async def prepare(self, job: Job, caps: Caps) -> tuple[Job, tuple[Note, ...]]:
        """See `prepare`."""
        if not _has_pictures(job):
            return job, ()
        return await self.aside(prepare, job, caps, bound=self.bound)

    async def measure(self, picture: Blob, param: str | None = None) -> Shape:
        """See `measure`; in the threads where the header does not tell, and all of the picture is read."""
        shape = told(picture, param)
        return shape if sized(shape) else await self.aside(measure, picture, param)

    async def typed(self, picture: Blob, param: str | None = None) -> Media:
        """See `typed`; in the threads as `measure` is."""
        return as_media(picture, await self.measure(picture, param))

    async def fit(self, media: Media, caps: Caps, param: str) -> tuple[Media, Note | None]:
        """See `fit`."""
        return await self.aside(fit, media, caps, param, bound=self.bound)

    async def check_mask(self, mask: Media, image: Media) -> None:
        """See `check_mask`."""
        await self.aside(check_mask, mask, image, bound=self.bound)

    async def mask(self, mask: Media, rule: MaskRule, image: Media, size: Size | None = None) -> Media:
        """See `convert_mask`."""
        return await self.aside(convert_mask, mask, rule, image, size, bound=self.bound)

    def close(self) -> None:
        """Let the running conversions end, and drop the waiting ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in these threads: also for drawing, where a provider has no wire."""
        return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))


def unreadable(param: str | None, why: str) -> Fault:
    """The fault of a picture that is none: the client's, in OpenAI's words, or the provider's."""
    if param is None:
        return Fault("upstream", f"The provider's picture cannot be used: {why}.", code="unreadable")
    text = f"Invalid image file or mode for {param}, please check your image file: {why}."
    return Fault("invalid", text, code="invalid_image_file", param=param)


def measure(picture: Blob, param: str | None = None) -> Shape:
    """Its shape: from the header in microseconds, through Pillow where the header is unusual. Decodes no pixel."""
    shape = told(picture, param)
    if sized(shape):
        return shape
    image = _opened(picture.bytes(), shape, param)
    return Shape(
        shape.type, *image.size, alpha=image.has_transparency_data, orientation=_orientation(image),
        animated=shape.animated,
    )  # fmt: skip


def sized(shape: Shape) -> bool:
    """Whether no more can be learnt of it: the header told the size, or nobody here could."""
    return bool(shape.width and shape.height) or shape.type in {"image/svg+xml", "image/heic"}


def told(picture: Blob, param: str | None = None) -> Shape:
    """What its header tells. Raises the `Fault` of what is no picture."""
    try:
        shape = look(picture)
    except ValueError as error:
        raise unreadable(param, "its base64 is broken") from error
    if picture.encoding == "base64" and open_ended(picture):
        raise unreadable(param, "its base64 is broken")
    if shape is None:
        raise unreadable(param, "its first bytes are not those of a picture" if picture.size else "it is empty")
    return shape


SAFE = bytes(set(range(0x20, 0x100)) - set(b'"\\'))
"""What may stand in a JSON string as it is."""


def open_ended(picture: Blob) -> bool:
    """Whether its text would end the JSON string that it is sent on in, and begin another member.

    Only where escapes were undone can it hold such a thing, and that joins it to one piece.
    """
    pieces = iter(picture.chunks)
    first = next(pieces, b"")
    return next(pieces, None) is None and bool(first.translate(None, SAFE))


def typed(picture: Blob, param: str | None = None) -> Media:
    """A received picture as `Media`: what anybody says of its type is not asked."""
    return as_media(picture, measure(picture, param))


def as_media(picture: Blob, shape: Shape) -> Media:
    """A picture of that shape."""
    return Media(blob=picture, type=shape.type, width=shape.width, height=shape.height, alpha=shape.alpha)


def transcode(
    picture: Blob, to: str, compression: int | None = None, background: str | None = None, *, bound: int = BOUND
) -> Blob:
    """A provider's picture as `to` (png, jpeg, webp); the same object where it is that already.

    A `compression` makes it anew all the same: it is set only where the provider could not compress.
    `compression` is OpenAI's `output_compression`, 0-100. Transparency becomes white in a JPEG, and everywhere where
    the `background` is to be "opaque".
    """
    if to not in WRITES:
        raise Fault("invalid", f"Pictures are converted to {', '.join(WRITES)}, not to {to}.", param="output_format")
    shape = measure(picture)
    opaque = to == "jpeg" or background == "opaque"
    if shape.type == f"image/{to}" and not (opaque and shape.alpha) and (compression is None or to == "png"):
        return picture
    image = decode(picture, shape, None, bound)
    return blob(encode(flattened(image) if opaque else image, to, QUALITY if compression is None else compression))


def fit(
    media: Media, caps: Caps, param: str, *, size: Size | None = None, bound: int = BOUND
) -> tuple[Media, Note | None]:
    """A client's picture as the model takes it: upright, of an accepted type, within its limits; and what that changed.

    The same object where nothing had to be done. `size` asks for exactly that size.
    """
    shape = _seen(media.blob, param, bound)
    target = size or _scaled(shape.upright, caps)
    _check_least(target, caps, param)
    heavy = 0 < caps.input_bytes < media.blob.length
    if shape.type in caps.input_types and shape.orientation == 1 and target == shape.upright and not heavy:
        same = (media.type, media.width, media.height) == (shape.type, shape.width, shape.height)
        return media if same else typed(media.blob, param), None
    image = decode(media.blob, shape, param, bound)
    target = size or _scaled(image.size, caps)  # of an animation's frame, it need not be what the header says
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    kind = _written_as(shape.type, image.mode == "RGBA", caps, param)
    made = _within(image, kind, caps, param, fixed=size is not None)
    return made, _note(param, shape, made, media.blob.length if heavy else None)


def check_mask(mask: Media, image: Media, *, bound: int = BOUND) -> Image.Image:
    """The mask's alpha channel, in which 0 marks what is edited of `image`, the first picture as it is seen upright."""
    shape, size = _seen(mask.blob, "mask", bound), _seen(image.blob, "image[0]", bound).upright
    if shape.upright != size:
        sizes = f"the mask is {_text(shape.upright)}, the first image is {_text(size)}"
        raise _bad_mask(f"mask size does not match image size ({sizes})")
    if not shape.alpha:
        raise _bad_mask("mask image missing alpha channel: its transparent pixels mark what is edited")
    alpha = decode(mask.blob, shape, "mask", bound).getchannel("A")
    if alpha.getextrema()[0] == 255:
        raise _bad_mask("no pixel of the mask is transparent, so nothing would be edited")
    return alpha


def convert_mask(
    mask: Media, rule: MaskRule, image: Media, size: Size | None = None, *, limit: int = 0, bound: int = BOUND
) -> Media:
    """The checked mask as the model wants it, at `size` where the picture was scaled, in at most `limit` bytes.

    OpenAI's own kind is handed on untouched where it fits. Elsewhere half-transparent stays half-edited.
    """
    if rule == "none":
        raise Fault("invalid", "This model takes no mask.", param="mask")
    alpha = check_mask(mask, image, bound=bound)
    scaled = size is not None and size != alpha.size
    if rule == "alpha" and not scaled and _is_rgba_png(mask) and not 0 < limit < mask.blob.length:
        return mask
    if size is not None and scaled:
        alpha = alpha.resize(size, Image.Resampling.NEAREST)
    if rule == "alpha":
        black = Image.new("L", alpha.size)
        made = Image.merge("RGBA", (black, black, black, alpha))
    else:
        made = ImageOps.invert(alpha) if rule == "white-edits" else alpha
    return _media(encode(made, "png"), "png", made)


def prepare(job: Job, caps: Caps, *, bound: int = BOUND) -> tuple[Job, tuple[Note, ...]]:
    """`job` with its pictures as the model takes them; the same object where nothing had to be done.

    A mask, and a markup of the first picture's size, go with that picture where it is scaled.
    """
    if not _has_pictures(job):
        return job, ()
    fitted = [fit(media, caps, f"image[{index}]", bound=bound) for index, media in enumerate(job.images)]
    images = tuple(media for media, _ in fitted)
    notes = [note for _, note in fitted if note]
    mask, markup = job.mask, job.markup
    after = (images[0].width, images[0].height) if images else None
    if mask is not None:
        if not images:
            raise Fault("invalid", "A mask needs the image that it belongs to.", param="mask")
        mask = convert_mask(mask, caps.mask, job.images[0], after, limit=caps.input_bytes, bound=bound)
    if markup is not None:
        first_seen = _seen(job.images[0].blob, "image[0]", bound).upright if images else None
        along = after if _seen(markup.blob, "markup", bound).upright == first_seen else None
        markup, note = fit(markup, caps, "markup", size=along, bound=bound)
        notes += [note] if note else []
    if mask is job.mask and markup is job.markup and all(map(operator.is_, images, job.images)):
        return job, tuple(notes)
    return msgspec.structs.replace(job, images=images, mask=mask, markup=markup), tuple(notes)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def decode(data: Blob, shape: Shape, param: str | None, bound: int, least: Size | None = None) -> Image.Image:
    """Its pixels, upright, as L, RGB or RGBA; not begun where there are more than `bound`.

    `least`: it may come smaller than it is, but no smaller than this, where that is less work.
    """
    if shape.type in {"image/svg+xml", "image/heic"}:
        raise unreadable(param, f"{shape.type} cannot be converted here; png, jpeg, webp, gif, bmp, avif and tiff can")
    _check_bound((shape.width, shape.height), bound, param)
    image = _opened(data.bytes(), shape, param)
    _check_bound(image.size, bound, param)  # what Pillow will decode, should it read the header differently
    try:
        if least is not None:
            image.draft(None, least)
        image.load()
        turn = _TURNS.get(shape.orientation or _orientation(image))
        return _plain(image if turn is None else image.transpose(turn))
    except Exception as error:  # Pillow raises nearly anything on broken bytes
        raise unreadable(param, f"it is cut off or damaged ({error})") from error


def encode(image: Image.Image, kind: str, quality: int = QUALITY) -> bytes:
    """The file of `kind` (png, jpeg, webp). The colour profile stays, all other metadata goes."""
    out = io.BytesIO()
    profile = image.info.get("icc_profile", b"")
    if profile[16:20] != (b"GRAY" if image.mode == "L" else b"RGB "):
        profile = b""
    try:
        if kind == "png":
            image.save(out, "PNG", compress_level=PNG_LEVEL, icc_profile=profile)
        elif kind == "jpeg":
            # full colour resolution where quality was asked for: coloured text is what models draw
            chroma = 0 if quality >= 90 else 2
            image.save(out, "JPEG", quality=max(quality, 1), subsampling=chroma, icc_profile=profile)
        else:
            image.save(out, "WEBP", quality=quality, method=WEBP_METHOD, icc_profile=profile)
    except (OSError, ValueError) as error:  # webp ends at 16383 pixels a side, jpeg at 65535
        text = f"A picture of {_text(image.size)} cannot be written as {kind}: {error}."
        raise Fault("invalid", text, code="unsupported_size", param="output_format") from error
    return out.getvalue()


def flattened(image: Image.Image) -> Image.Image:
    """Without transparency: on white, as a page would show it."""
    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    canvas.info = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
    return canvas


def _opened(data: bytes, shape: Shape, param: str | None) -> Image.Image:
    # warnings speak to programmers; the filters are the process's, and whoever resets them drops ours
    warnings.filterwarnings("ignore", module="PIL")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # see `decode`
        raise unreadable(param, f"it begins like {shape.type} but is cut off or damaged") from error


def _plain(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in {"L", "RGB"}:
        return image
    if image.mode.startswith("I"):  # 16 bits, of which convert() would cut the upper ones
        return image.convert("F").point(lambda value: value * (1 / 257) + 0).convert("L")
    return image.convert("L" if image.mode == "1" else "RGB")


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(0x0112, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _seen(picture: Blob, param: str, bound: int) -> Shape:
    """Its shape, its orientation looked up where the first bytes did not reach it."""
    shape = measure(picture, param)
    if shape.orientation:
        return shape
    _check_bound((shape.width, shape.height), bound, param)
    return msgspec.structs.replace(shape, orientation=_orientation(_opened(picture.bytes(), shape, param)))


def _check_bound(size: Size, bound: int, param: str | None) -> None:
    if size[0] * size[1] > bound:
        raise unreadable(param, f"it has {_text(size)} pixels, more than the {bound} that are decoded")


def _check_least(size: Size, caps: Caps, param: str) -> None:
    least = caps.input_edge[0]
    if 0 < min(size) < least:
        text = f"{param} is {_text(size)}; this model takes pictures whose edges have at least {least} pixels."
        raise Fault("invalid", text, code="image_too_small", param=param)


def _scaled(size: Size, caps: Caps) -> Size:
    """The largest size of the same ratio within the limits."""
    longest, pixels = caps.input_edge[1], caps.input_pixels
    scale = 1.0
    if longest and max(size) > longest:
        scale = longest / max(size)
    if pixels and size[0] * size[1] * scale * scale > pixels:
        scale = math.sqrt(pixels / (size[0] * size[1]))
    if scale == 1.0:
        return size
    width, height = (max(1, round(edge * scale)) for edge in size)
    if pixels and width * height > pixels:
        width, height = (max(1, math.floor(edge * scale)) for edge in size)
    return width, height


def _written_as(source: str, alpha: bool, caps: Caps, param: str) -> str:
    """Its own kind where that can be, else one that keeps what it has."""
    wishes = (source.removeprefix("image/"), *(("png", "webp", "jpeg") if alpha else ("jpeg", "png", "webp")))
    for kind in wishes:
        if kind in WRITES and f"image/{kind}" in caps.input_types:
            return kind
    text = f"{param} is {source}; this model takes {', '.join(caps.input_types)}."
    raise Fault("invalid", text, code="unsupported_file_mimetype", param=param)


def _within(image: Image.Image, kind: str, caps: Caps, param: str, *, fixed: bool) -> Media:
    """The file within `input_bytes`: by quality first, then by size."""
    quality, limit = QUALITY, caps.input_bytes
    for _ in range(10):
        shown = flattened(image) if kind == "jpeg" else image
        data = encode(shown, kind, quality)
        if not limit or len(data) <= limit:
            return _media(data, kind, shown)
        if kind == "png" and image.mode != "RGBA" and "image/jpeg" in caps.input_types:
            kind = "jpeg"
        elif kind != "png" and quality > 75:
            quality -= 10
        elif fixed:
            break
        else:
            scale = max(0.5, math.sqrt(limit / len(data)) * 0.95)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            _check_least(size, caps, param)
            image = image.resize(size, Image.Resampling.LANCZOS)
    text = f"{param} cannot be brought under the {limit} bytes that this model takes."
    raise Fault("invalid", text, code="image_too_large", param=param)


def _media(data: bytes, kind: str, image: Image.Image) -> Media:
    alpha = image.mode == "RGBA"
    return Media(blob=blob(data), type=f"image/{kind}", width=image.width, height=image.height, alpha=alpha)


def _note(param: str, shape: Shape, made: Media, bytes_before: int | None) -> Note | None:
    """What a client would want to know. That a picture was turned upright is not among it."""
    changes = []
    if (made.width, made.height) != shape.upright:
        changes.append(f"{_text(shape.upright)} -> {made.width}x{made.height}")
    if made.type != shape.type:
        changes.append(f"{shape.type} -> {made.type}")
    if bytes_before:
        changes.append(f"{bytes_before} -> {made.blob.size} bytes")
    return Note(param, "converted", f"{param} {', '.join(changes)}") if changes else None


def _has_pictures(job: Job) -> bool:
    return bool(job.images) or job.mask is not None or job.markup is not None


def _bad_mask(why: str) -> Fault:
    return Fault("invalid", f"Invalid mask image format - {why}", code="invalid_mask_image_format", param="mask")


def _is_rgba_png(mask: Media) -> bool:
    head = first(mask.blob, 26)
    return head.startswith(b"\x89PNG") and head[25] == 6


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
