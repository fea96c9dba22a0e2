"""How pictures are made: what is different from other things on the way of a call. A `craft.Craft`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from proxy import estimate, inputs, pixels, plan, prices, record
from proxy.answer import Picture
from proxy.ask import Ask, Inputs, Source
from proxy.catalog import Route, Target
from proxy.keeping import kept, word
from proxy.logs import log
from proxy.metrics import tier
from proxy.plan import Note, Plan, check_possible
from proxy.providers import Makes
from proxy.route import Made
from translators.base import Fault, Job, Output

if TYPE_CHECKING:
    from proxy.gateway import Gateway

MAKES: Makes = "image"
ASK = Ask
INPUTS = Inputs


async def given(gateway: Gateway, route: Route, ask: Ask, owner: str) -> Inputs:
    """The client's pictures."""
    if not (ask.images or ask.mask or ask.markup):
        return Inputs()
    check_possible(ask, route.targets)
    if len(ask.images) > (most := gateway.config.limits.images):
        text = f"Too many images: expected at most {most}, but got {len(ask.images)}."
        raise Fault("invalid", text, code="invalid_value", param="image")
    sources: list[Source] = [*ask.images, *(each for each in (ask.mask, ask.markup) if each is not None)]
    media = await inputs.pictures(gateway, sources, owner)
    rest = iter(media[len(ask.images) :])
    mask = next(rest) if ask.mask is not None else None
    markup = next(rest) if ask.markup is not None else None
    return Inputs(images=media[: len(ask.images)], mask=mask, markup=markup)


def plans(ask: Ask, given: Inputs, targets: Sequence[Target], strict: bool) -> tuple[Plan, ...]:
    """What to ask of which target."""
    return plan.plans(ask, given, targets, strict=strict)


def without_inputs(ask: Ask) -> Ask:
    """The request without its pictures: a `data:` URL is as large again."""
    return replace(ask, images=(), mask=None, markup=None)


def request(ask: Ask, given: Inputs, _plans: Sequence[Plan], /, *, prompts: bool) -> dict[str, Any]:
    """What its row says of the request."""
    told = record.request_of(ask, prompts=prompts)
    if images := len(given.images) + (given.mask is not None) + (given.markup is not None):
        told["images"] = images
    return told


def most(planned: Plan, _given: Inputs, /) -> float | None:
    """The most US dollars that it may cost; `None` where nothing bounds it."""
    return estimate.most_of(planned)


async def fit(gateway: Gateway, job: Job, target: Target) -> tuple[Job, tuple[Note, ...]]:
    """The job with its pictures as the target takes them."""
    return await gateway.pixels.prepare(job, target.caps)


async def finish(gateway: Gateway, plan: Plan, output: Output, *, keep: bool) -> tuple[Picture, tuple[Note, ...]]:
    """One output, and what about it is not as it was asked for."""
    picture = Picture(url=output.url, revised_prompt=output.revised_prompt, extra=output.extra)
    if output.blob is None:
        return picture, ()
    notes: tuple[Note, ...] = ()
    blob, shape, wish = output.blob, await gateway.pixels.measure(output.blob), plan.finish
    if wish.format and (shape.type != f"image/{wish.format}" or wish.compression is not None):
        try:
            with gateway.timed(plan.target.upstream, "convert"):
                blob = await gateway.pixels.transcode(blob, wish.format, wish.compression)
            shape = pixels.measure(blob)
        except Exception as error:  # whatever it is: the picture is paid for
            if not isinstance(error, Fault):
                log.error("a made picture is answered as it came", exc_info=error)
            blob, got = output.blob, shape.type.removeprefix("image/")
            notes += (Note("output_format", "noted", f"output_format {wish.format} -> {got} ({word(error)})"),)
    picture, late = await kept(gateway, plan, replace(picture, blob=blob, shape=shape, size=blob.length), keep=keep)
    return picture, notes + late


def cost(made: Made, pictures: Sequence[Picture]) -> float | None:
    """What they cost in US dollars; `None` where that is not known."""
    job, quality = made.plan.jobs[0], made.quality or made.plan.jobs[0].quality
    caps = made.plan.target.caps
    return prices.cost(caps.prices, job.op, sizes(pictures), quality, made.usage, made.images_in, calls=made.calls)


def count(gateway: Gateway, made: Made, pictures: Sequence[Picture]) -> None:
    """They are made."""
    target = made.plan.target
    for width, height in sizes(pictures):
        op = made.plan.jobs[0].op
        gateway.metrics.count("pictures_total", op, target.upstream.name, target.model, tier(width, height))


def sizes(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """Their pixels; 0 x 0 where nobody looked."""
    return [(each.shape.width, each.shape.height) if each.shape else (0, 0) for each in pictures]
