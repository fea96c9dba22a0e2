"""A picture, small: what a list or a gallery shows. For the threads of `Pixels`."""

from __future__ import annotations

from PIL import Image

from proxy.pixels import decode, encode, measure
from translators.base import Blob, blob

QUALITY = 80


def thumbnail(picture: Blob, side: int, bound: int) -> Blob:
    """It as a WebP whose longest edge is at most `side`; of an animation, the first frame. `picture` is walked once.

    Raises a `Fault` where it is no picture that can be decoded, or has more than `bound` pixels.
    """
    whole = blob(picture.bytes())
    image = decode(whole, measure(whole), None, bound, least=(side, side))
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return blob(encode(image, "webp", QUALITY))
