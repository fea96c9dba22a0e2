"""The way of a request, straight on: ask -> inputs -> plans -> made -> finished. The same for all that is made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy import answer
from proxy.answer import Picture, Preview, Result
from proxy.catalog import Route, Target
from proxy.craft import AnyAsk, AnyPlans, Craft, caps_of, craft_of
from proxy.engine import timings
from proxy.gateway import Gateway
from proxy.logs import warn
from proxy.plan import Note, Plan
from proxy.prices import dollars, micros
from proxy.route import Attempt, Made, added, attempt, charged, make, ordered
from proxy.run import silent
from proxy.trail import Left, Trail
from translators.base import Fault, Job, Media, Op, Output, Partial
from translators.video import VideoCaps

KEEP_SECONDS = 600.0  # that a store has to come back, where nobody waits for what is to be kept


class Planned(msgspec.Struct, frozen=True):
    """A request that can be served: nothing was paid yet, and nothing in it can be the client's fault any more."""

    ask: AnyAsk  # without what came with it: the plans have that
    route: Route[Any]
    plans: AnyPlans
    given: msgspec.Struct  # what came with it, as it came

    @property
    def craft(self) -> Craft:
        """How it is made."""
        return craft_of(self.ask.op)


class Drawing:
    """What is seen of a call while it is drawn."""

    __slots__ = ("keep", "lent", "sure", "target", "timings", "trail")

    def __init__(self, *, keep: bool = False, sure: bool = False, trail: Trail | None = None) -> None:
        self.keep = keep  # all that is made goes to the store, however it is answered
        self.sure = sure  # … and nobody has it otherwise
        self.trail = trail  # of what is submitted
        self.timings: dict[str, float] = {}  # phase -> seconds
        self.target: str | None = None  # provider/model that was tried last
        self.lent: list[str] = []  # the client's pictures, in the store for a provider that fetches them


async def planned(
    gateway: Gateway, route: Route[Any], ask: AnyAsk, *, owner: str, strict: bool, given: msgspec.Struct | None = None
) -> Planned:
    """Hold the request of the key `owner` against the models where its route leads. `given`: what came with it, where
    that is there already.

    Raises the `Fault` of what cannot be had, before anything is paid.
    """
    craft = craft_of(ask.op)
    with refusals(gateway, route):
        if given is None:
            given = await craft.given(gateway, route, ask, owner)
        made = craft.plans(ask, given, ordered(route.targets), strict)
    return Planned(craft.without_inputs(ask), route, made, given)


@contextmanager
def refusals(gateway: Gateway, route: Route[Any]) -> Iterator[None]:
    """Count what is refused for a model's sake."""
    try:
        yield
    except Fault as fault:
        if fault.param:
            name = route.targets[0].upstream.name
            gateway.metrics.count("params_changed_total", name, re.split(r"[.\[]", fault.param)[0], "refused")
        raise


async def draw(
    gateway: Gateway, work: Planned, drawing: Drawing, previews: asyncio.Queue[Preview] | None = None
) -> Result:
    """Make it, and finish it."""
    plan_notes: dict[str, tuple[Note, ...]] = {}
    timings.set(drawing.timings)
    craft = work.craft

    async def settle(job: Job, target: Target[Any]) -> Job:
        drawing.target = target.id
        fitted, notes = await craft.fit(gateway, job, target)
        plan_notes[target.id] = notes
        return await published(gateway, fitted, target, drawing)

    async def emit(partial: Partial) -> None:
        wanted = partial.index < getattr(work.ask, "partial_images", 0)  # some providers send them unasked
        if previews is not None and partial.output.blob is not None and wanted:
            await preview(gateway, work, partial, previews)

    made = await make(work.route, work.plans, gateway.engine, gateway.health, emit, settle, drawing.trail)
    return await brought(gateway, craft, made, drawing, work.ask.op, plan_notes.get(made.plan.target.id, ()))


async def go_on(
    gateway: Gateway, op: Op, plan: Plan[Any], left: Mapping[int, Left], drawing: Drawing, ends: float
) -> Result:
    """Bring to its end what an earlier process has submitted; `ends` is of the loop's clock.

    The plan's jobs are whole where what came with the request is still there: then what was not begun is begun.
    """
    timings.set(drawing.timings)
    drawing.target = plan.target.id
    craft = craft_of(op)
    whole = not any(plan.jobs[number] is each.saved.job for number, each in left.items())

    async def settle(job: Job, target: Target[Any]) -> Job:
        fitted, _ = await craft.fit(gateway, job, target)
        return await published(gateway, fitted, target, drawing)

    at = Attempt(plan, gateway.engine, gateway.health, silent, settle, True, ends, drawing.trail, whole)
    return await brought(gateway, craft, await attempt(at), drawing, op, ())


async def brought(
    gateway: Gateway, craft: Craft, made: Made, drawing: Drawing, op: Op, notes: tuple[Note, ...]
) -> Result:
    """What was made, finished and counted."""
    made, pictures, late = await finished(gateway, craft, made, drawing)
    return recorded(gateway, craft, made, pictures, op, made.plan.notes + notes + late)


async def preview(gateway: Gateway, work: Planned, partial: Partial, previews: asyncio.Queue[Preview]) -> None:
    """Hand on a preview of a picture that is still to come."""
    blob = partial.output.blob
    if blob is None:
        return
    try:
        shape = await gateway.pixels.measure(blob)
    except Fault as fault:
        warn("a preview cannot be used", model=work.route.name, error=fault.message)
        return
    quality, background = getattr(work.ask, "quality", None), getattr(work.ask, "background", None)
    previews.put_nowait(
        Preview(
            index=partial.index, blob=blob, shape=shape, created=answer.now(), quality=quality or "auto",
            background=background or "auto",
        )
    )  # fmt: skip


async def published(gateway: Gateway, job: Job, target: Target[Any], drawing: Drawing) -> Job:
    """`job` with what came with it at addresses of ours, for models that take it by address only."""
    ours = gateway.config.server.public_url

    async def at(media: Media) -> Media:
        if not ours:
            text = f"{target.id} takes pictures by address only: server.public_url must be set for that."
            raise Fault("invalid", text, code="public_url_required", param="image")
        drawing.lent.append(await gateway.store(media.blob, media.type))
        return replace(media, url=ours.rstrip("/") + gateway.link(drawing.lent[-1]))

    async def each(value: Any) -> Any:
        return tuple([await at(media) for media in value]) if isinstance(value, tuple) else await at(value)

    caps = caps_of(target)
    fields = INPUTS if caps.inputs == "url" else ()
    if isinstance(caps, VideoCaps) and caps.clip_inputs == "url":
        fields += ("clip",)
    changed = {name: await each(value) for name in fields if (value := getattr(job, name, None))}
    return replace(job, **changed) if changed else job


INPUTS: tuple[str, ...] = ("images", "mask", "markup", "first", "last", "references")


async def finished(
    gateway: Gateway, craft: Craft, made: Made, drawing: Drawing
) -> tuple[Made, tuple[Picture, ...], tuple[Note, ...]]:
    """The outputs as they were asked for, measured, and stored where an address is to be answered.

    They are paid for: one that cannot be finished as it was asked for is answered as it is, with a note. Only what is
    nothing of the kind becomes a fault, beside the others.
    """

    async def kept(output: Output) -> tuple[Picture, tuple[Note, ...]] | Fault:
        try:
            return await surely(gateway, craft, made.plan, output, drawing)
        except Fault as fault:
            return fault

    if len(made.outputs) == 1:
        each = [await kept(made.outputs[0])]
    else:
        each = await asyncio.gather(*map(kept, made.outputs))
    faults = tuple(one for one in each if isinstance(one, Fault))
    done = [one for one in each if not isinstance(one, Fault)]
    job, target = made.plan.jobs[0], made.plan.target
    if not done:
        fault = faults[0]
        fault.usage, fault.lost = made.usage, len(faults)
        fault.cost_usd = added(made.wasted_usd, charged(fault, job, target, gateway.metrics)) or None
        raise fault
    wasted = made.wasted_usd
    if made.usage.cost_usd is None:  # else they are in the price of the others
        for fault in faults:
            fault.lost = 1
            wasted = added(wasted, charged(fault, job, target, gateway.metrics))
    notes = dict.fromkeys(note for _, noted in done for note in noted)  # the same for each of `n`: said once
    return (
        replace(made, faults=made.faults + faults, wasted_usd=wasted),
        tuple(picture for picture, _ in done),
        tuple(notes),
    )


async def surely(
    gateway: Gateway, craft: Craft, plan: Plan[Any], output: Output, drawing: Drawing
) -> tuple[Picture, tuple[Note, ...]]:
    """One output, finished. Where nobody else has it, a store that is away is waited for.

    Raises what `Craft.finish` does; and `Fault("overloaded")` where the store does not come back.
    """
    until = asyncio.get_running_loop().time() + KEEP_SECONDS
    pause = 1.0
    while True:
        picture, notes = await craft.finish(gateway, plan, output, keep=drawing.keep)
        if picture.stored is not None or picture.blob is None or not drawing.sure:
            return picture, notes
        if asyncio.get_running_loop().time() + pause > until:
            fault = Fault("overloaded", "What was made cannot be kept: the store is away.", code="storage_unavailable")
            fault.passing = True  # the provider may still have it
            raise fault
        await asyncio.sleep(pause)
        pause = min(pause * 2, 30.0)


def recorded(
    gateway: Gateway, craft: Craft, made: Made, pictures: Sequence[Picture], op: Op, notes: tuple[Note, ...]
) -> Result:
    """The result, and its numbers in the metrics."""
    target, metrics = made.plan.target, gateway.metrics
    names = (target.upstream.name, target.model)
    usd = dollars(micros(craft.cost(made, pictures)))  # header, metric and ledger say the same
    if usd is None:
        metrics.count("unpriced_jobs_total", *names)
    elif usd:
        metrics.count("cost_usd_total", *names, by=usd)
    craft.count(gateway, made, pictures)
    for member, direction, modality in TOKENS:
        if counted := getattr(made.usage, member):
            metrics.count("tokens_total", *names, direction, modality, by=counted)
    for note in notes:
        metrics.count("params_changed_total", target.upstream.name, note.param, note.action)
    return Result(
        op=op, model=target.id, pictures=tuple(pictures), created=answer.now(), usage=made.usage,
        finish=made.plan.finish, n=sum(each.n for each in made.plan.jobs), notes=notes, faults=made.faults,
        quality=made.quality, background=made.background, cost_usd=usd, wasted_usd=made.wasted_usd,
    )  # fmt: skip


TOKENS = (
    ("input_text", "in", "text"),
    ("input_image", "in", "image"),
    ("output_text", "out", "text"),
    ("output_image", "out", "image"),
)
