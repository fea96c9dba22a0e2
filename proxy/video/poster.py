"""Pictures of a video: its poster, and a sheet of small ones from its beginning to its end. For a thread.

Needs the extra `video`, which is imported when the first one is made. What is decoded may be hostile: the format and
the codec are ones that are known, sizes, packets, frames and seconds are bounded, and no other file is opened.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from PIL import Image, ImageStat

from proxy.movie import Movie, Read, Walk, look
from proxy.pixels import encode
from translators.base import Blob, Fault, Size

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

Film: TypeAlias = Path | BinaryIO | Blob
"""A file, one that is open and can be walked anywhere, or received bytes."""

FORMATS = {"video/mp4": "mov", "video/quicktime": "mov", "video/webm": "matroska", "video/x-matroska": "matroska"}
CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9", "mpeg4"})
PIXELS = 8192 * 4320  # of a frame
PACKETS = 20_000
FRAMES = 1500
SECONDS = 20.0  # of work
LEADER = 120  # frames among which a poster is looked for
DARK = 20  # the mean of a frame, of 255, that is taken for black
KEYS_ALONE = 30.0  # seconds from which on a sheet is made of key frames
SHEET: Size = (5, 5)
TILE = 256  # the longest edge of one of its pictures, in pixels
QUALITY = 82


def poster(film: Film, side: int = 1024) -> bytes:
    """A WebP of the first frame that is not black, its longest edge at most `side`.

    Raises `Fault("invalid")` where it cannot be made of this file, and `Fault("missing")` where it cannot be made here;
    both with the code `poster_unavailable`.
    """
    best: tuple[float, Image.Image] | None = None
    with opened(film) as (container, _):
        for number, frame in enumerate(decoded(container)):
            image = pictured(frame, side)
            light = sum(ImageStat.Stat(image).mean) / 3
            if best is None or light > best[0]:
                best = light, image
            if light > DARK or number + 1 >= LEADER:
                break
    if best is None:
        raise unavailable("no frame of it can be decoded")
    return encode(best[1], "webp", QUALITY)


def spritesheet(film: Film, grid: Size = SHEET, tile: int = TILE) -> bytes:
    """A JPEG of so many columns and rows of frames, evenly from the beginning to the end, each at most `tile` wide or
    high. Raises as `poster` does.
    """
    count = grid[0] * grid[1]
    tiles: list[Image.Image] = []
    with opened(film) as (container, movie):
        step = movie.seconds / count
        last: Image.Image | None = None
        for frame in decoded(container, keys=movie.seconds > KEYS_ALONE):
            due = min(count, int((frame.time or 0.0) / step + 0.5) if step else count)
            if last is None or due > len(tiles):
                shown = pictured(frame, tile)
                tiles += [last or shown] * (due - 1 - len(tiles)) + [shown] * (due > len(tiles))
                last = shown
            if len(tiles) >= count:
                break
    if last is None:
        raise unavailable("no frame of it can be decoded")
    tiles += [last] * (count - len(tiles))
    width, height = last.size
    sheet = Image.new("RGB", (width * grid[0], height * grid[1]))
    for number, image in enumerate(tiles):
        row, column = divmod(number, grid[0])
        sheet.paste(image.resize(last.size), (column * width, row * height))
    return encode(sheet, "jpeg", QUALITY)


# ---- what is read


class Seekable(io.RawIOBase):
    """Bytes that can be read anywhere, as a file."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next bytes are read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of every file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        stop = self._size if size < 0 else min(self._at + size, self._size)
        data = self._read(self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data


@contextmanager
def opened(film: Film) -> Iterator[tuple[InputContainer, Movie]]:
    """The file's frames to be decoded, and what its boxes tell; whatever goes wrong with it is a fault."""
    try:
        import av
    except ImportError as error:
        text = "Pictures of videos need the extra `video` here: pip install pictor[video]."
        raise Fault("missing", text, code="poster_unavailable") from error
    try:
        with as_file(film) as (file, size):
            movie = look(reader(file), size)
            if movie is None:
                raise unavailable("its first bytes are not those of a video")
            file.seek(0)
            with av.open(file, mode="r", format=FORMATS[movie.type], options=PROBED) as container:
                yield container, movie
    except Fault:
        raise
    except Exception as error:  # broken bytes bring about nearly anything
        raise unavailable(f"it is cut off or damaged ({type(error).__name__})") from error


PROBED = {"probesize": "5000000", "analyzeduration": "2000000"}  # bytes, microseconds


@contextmanager
def as_file(film: Film) -> Iterator[tuple[BinaryIO | Seekable, int]]:
    """It open, and how many bytes it has."""
    if isinstance(film, Blob):
        size = film.length
        yield Seekable(Walk(film).read, size), size
    elif isinstance(film, Path):
        with film.open("rb") as file:
            yield file, file.seek(0, io.SEEK_END)
    else:
        yield film, film.seek(0, io.SEEK_END)


def reader(file: BinaryIO | Seekable) -> Read:
    """Its bytes from here to there."""

    def read(start: int, stop: int) -> bytes:
        file.seek(start)
        return file.read(stop - start) or b""

    return read


def decoded(container: InputContainer, *, keys: bool = False) -> Iterator[VideoFrame]:
    """The frames of the first video track, within the bounds; `keys`: only those that stand by themselves."""
    if not container.streams.video:
        raise unavailable("it has no pictures")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec.name not in CODECS:
        raise unavailable(f"its codec is {codec.name}; decoded are {', '.join(sorted(CODECS))}")
    if not 0 < codec.width * codec.height <= PIXELS:
        raise unavailable(f"it has {codec.width}x{codec.height} pixels")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(PIXELS)}
    if keys:
        codec.skip_frame = "NONKEY"
    end = time.monotonic() + SECONDS
    frames = 0
    for packets, packet in enumerate(container.demux(stream)):
        if packets >= PACKETS:
            return
        for frame in packet.decode():
            frames += 1
            if frames > FRAMES or time.monotonic() > end:
                return
            yield frame


def pictured(frame: VideoFrame, side: int) -> Image.Image:
    """The frame as it is to be seen, in so many pixels at most."""
    scale = min(side / max(frame.width, frame.height), 1.0)
    width, height = max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)
    (plane,) = frame.reformat(width, height, format="rgb24").planes
    image = Image.frombytes("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def unavailable(why: str) -> Fault:
    """The fault of a file of which no picture can be made."""
    text = f"There is no picture of this video: {why}."
    return Fault("invalid", text, code="poster_unavailable", param="variant")
