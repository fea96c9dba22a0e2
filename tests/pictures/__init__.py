"""Small real pictures for tests: a file beside this module becomes a `Media` by its name."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from translators.base import Media, blob

HERE = Path(__file__).parent


def data(name: str) -> bytes:
    """The bytes of that picture."""
    return (HERE / name).read_bytes()


def media(name: str) -> Media:
    """That picture, or video, as the engine would hand it to a translator."""
    if name.endswith(".mp4"):
        return Media(blob=blob(data(name)), type="video/mp4", width=1280, height=720)
    with Image.open(HERE / name) as image:
        alpha = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
        return Media(
            blob=blob(data(name)), type=f"image/{(image.format or '').lower()}", width=image.width, height=image.height,
            alpha=alpha,
        )  # fmt: skip
