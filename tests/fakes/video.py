"""What the fakes of video services share. Each is strict, as the ones for pictures are, and understands the same words.

`refuse me` is refused by the safety system (where the service tells that in the task, there), `rate limit me` always
answers "too fast", `fail me` fails in the task. A task is first told as waiting, then as running, then as ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tests.fakes.base import GOOD_KEY, WRONG_KEY, Fake
from translators.base import Secret
from translators.video import VideoJob

VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 8
"""Begins as an MP4 does. Nobody looks further here."""


@dataclass
class VideoFake(Fake):
    """One strict video service."""

    path: ClassVar[str] = ""  # of its API below the host, as in the translator's base
    frames: ClassVar[str | None] = None  # a model that takes a first frame
    secret: ClassVar[Secret] = Secret(GOOD_KEY)
    wrong: ClassVar[Secret] = Secret(WRONG_KEY)
    video: ClassVar[bytes] = VIDEO

    tasks: int = 0  # that were begun
    stopped: int = 0  # of these
    received: list[bytes] = field(default_factory=list)  # pictures, as they arrived

    def job(self, prompt: str) -> VideoJob:
        """A video that it makes of text."""
        return VideoJob(op="video", model=self.generates, prompt=prompt)

    def stoppable(self) -> VideoJob | None:
        """A video whose task can be stopped before it is begun; `None` where no task can be."""
        return None
