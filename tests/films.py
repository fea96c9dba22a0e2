"""Small real videos for tests, made by a library that the product does not need."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av


class Unseekable(io.RawIOBase):
    """A file as a recorder writes it: on and on."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += memoryview(data)  # type: ignore[arg-type]  # what buffers are is not said for the base class
        return memoryview(data).nbytes  # type: ignore[arg-type]


@lru_cache
def filmed(
    format: str,
    codec: str = "libx264",
    sound: str = "",
    options: tuple[tuple[str, str], ...] = (),
    seekable: bool = True,
) -> bytes:
    """Two seconds and a half of 96 x 64 at 10 frames a second."""
    if seekable:
        with TemporaryDirectory() as folder:
            path = Path(folder, "made")
            written(str(path), format, codec, sound, options)
            return path.read_bytes()
    out = Unseekable()
    written(out, format, codec, sound, options)
    return bytes(out.data)


def written(out: str | Unseekable, format: str, codec: str, sound: str, options: tuple[tuple[str, str], ...]) -> None:
    with av.open(out, "w", format=format, options=dict(options)) as made:
        pictures = made.add_stream(codec, rate=10)
        assert isinstance(pictures, av.VideoStream)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        pictures.gop_size = 5
        tones = made.add_stream(sound, rate=48_000) if sound else None
        if isinstance(tones, av.AudioStream):  # before anything is written
            tones.layout = "stereo"
            tones.format = "fltp" if sound == "aac" else "s16"
        for number in range(25):
            frame = av.VideoFrame(96, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 9]) * plane.buffer_size)
            frame.pts = number
            made.mux(pictures.encode(frame))
        made.mux(pictures.encode(None))
        if isinstance(tones, av.AudioStream):
            for at in range(0, 120_000, 960):
                quiet = av.AudioFrame(tones.format.name, "stereo", 960)
                for part in quiet.planes:
                    part.update(bytes(part.buffer_size))
                quiet.sample_rate, quiet.pts = 48_000, at
                made.mux(tones.encode(quiet))
            made.mux(tones.encode(None))
