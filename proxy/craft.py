"""What is different between the kinds of things that are made, on a way that is the same for all: see `draw`.

A craft is a module with these functions: `pictures` is one, `video.movies` another.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from proxy.answer import Picture
from proxy.ask import Ask
from proxy.catalog import Route, Target
from proxy.plan import Note, Plan
from proxy.providers import AnyCaps, Makes
from proxy.route import Made
from proxy.video.ask import VideoAsk
from translators.base import Job, Op, Output

if TYPE_CHECKING:
    from proxy.gateway import Gateway

AnyAsk: TypeAlias = Ask | VideoAsk
AnyPlans: TypeAlias = tuple[Plan[Any], ...]


class Craft(Protocol):
    """How one kind of thing is made."""

    @property
    def MAKES(self) -> Makes:
        """What kind of thing."""
        ...

    @property
    def ASK(self) -> type[AnyAsk]:
        """A request for one."""
        ...

    @property
    def INPUTS(self) -> type[msgspec.Struct]:
        """What may come with a request."""
        ...

    async def given(self, gateway: Gateway, route: Route[Any], ask: Any, owner: str) -> msgspec.Struct:
        """What the key `owner` gave with the request, fetched and looked at. Raises before anything is paid."""
        ...

    def plans(self, ask: Any, given: Any, targets: Sequence[Target[Any]], strict: bool) -> AnyPlans:
        """What to ask of which target. Raises where none can do it."""
        ...

    def without_inputs(self, ask: Any) -> Any:
        """The request without what came with it: the plans have that."""
        ...

    def request(self, ask: Any, given: Any, plans: Any, /, *, prompts: bool) -> dict[str, Any]:
        """What its row says of the request, without what came with it; the prompts only where they may be kept."""
        ...

    def most(self, plan: Plan[Any], given: Any, /) -> float | None:
        """The most US dollars that it may cost; `None` where nothing bounds it."""
        ...

    async def fit(self, gateway: Gateway, job: Any, target: Target[Any]) -> tuple[Job, tuple[Note, ...]]:
        """The job with its inputs as the target takes them."""
        ...

    async def finish(
        self, gateway: Gateway, plan: Plan[Any], output: Output, *, keep: bool
    ) -> tuple[Picture, tuple[Note, ...]]:
        """One output as it was asked for, and what about it is not. Raises where it is nothing of the kind."""
        ...

    def cost(self, made: Made, pictures: Sequence[Picture]) -> float | None:
        """What it cost in US dollars; `None` where that is not known."""
        ...

    def count(self, gateway: Gateway, made: Made, pictures: Sequence[Picture]) -> None:
        """Its numbers in the metrics."""
        ...


CRAFTS = {"video": "proxy.video.movies"}


def craft_of(op: Op) -> Craft:
    """The craft of an operation."""
    craft: Craft = import_module(CRAFTS.get(op, "proxy.pictures"))
    return craft


def caps_of(target: Target[Any]) -> AnyCaps:
    """What the target can do, whatever it makes."""
    caps: AnyCaps = target.caps
    return caps
