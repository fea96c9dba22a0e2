"""What keeps the limits: the memory of this process, or a store that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from proxy.limits.rates import Admission, Rules

Slot: TypeAlias = tuple[str, str]
"""The id of a caller, and of a task of its that runs."""

LEASE = 60.0  # seconds after which the slots of a process that is dead end by themselves


class Wanted(msgspec.Struct, frozen=True):
    """A call that asks to be admitted."""

    caller: str
    rules: Rules
    n: int  # pictures
    task: str  # whose job it is; empty: this is a mere look, of which nothing is kept


class Away(Exception):
    """A store cannot be reached, or does not answer in time."""


class Backend(Protocol):
    """What `Limits` asks."""

    degraded: bool  # this process is alone with its share

    async def start(self) -> None:
        """Connect. A store that is away is no error."""

    async def take(self, wanted: Wanted, /) -> Admission:
        """Judge a call, and count it where it is admitted."""
        ...

    async def release(self, slot: Slot, /) -> None:
        """Returns when the next call may have the slot; one that is not held is no error."""

    async def seize(self, slot: Slot, /) -> None:
        """Hold it, whatever the limit says: its job runs already."""

    def leave(self, slot: Slot, /) -> None:
        """Hold it no longer, nor give it back: another process goes on with its job. Its lease ends by itself."""

    async def aclose(self) -> None:
        """Give back what is held, and disconnect."""


class Store(Protocol):
    """What several processes share. Every method may raise `Away`."""

    name: str
    patience: float  # seconds that calls wait for it
    lease: float  # seconds after which a slot ends that is not held

    async def run(self, ended: Sequence[Slot], wanted: Sequence[Wanted], /) -> list[Admission]:
        """Give slots back, then judge the calls one after the other; in one go, which nobody else comes between."""
        ...

    async def hold(self, slots: Sequence[Slot], /) -> None:
        """Prolong the leases of these, and take them again where they have been lost. Asks it even where none is."""

    async def aclose(self) -> None:
        """Disconnect."""
