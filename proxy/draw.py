"""The way of a request, straight on: ask -> inputs -> plans -> made -> finished."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec.structs import replace

from proxy import answer, fetch, pixels
from proxy.answer import Picture, Preview, Result
from proxy.ask import Ask, FileRef, Inputs, Link, Source
from proxy.catalog import Route, Target
from proxy.engine import timings
from proxy.gateway import Gateway
from proxy.http import Refused
from proxy.logs import log, warn
from proxy.metrics import tier
from proxy.plan import Note, Plan, check_possible, plans
from proxy.prices import cost, dollars, micros
from proxy.route import Made, added, charged, make, ordered
from translators.base import Fault, Job, Media, Output, Partial

READABLE = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif", "image/tiff")


class Planned(msgspec.Struct, frozen=True):
    """A request that can be served: nothing was paid yet, and nothing in it can be the client's fault any more."""

    ask: Ask  # without its pictures: the plans have them, and a `data:` URL is as large again
    route: Route
    plans: tuple[Plan, ...]


class Drawing:
    """What is seen of a call while it is drawn."""

    __slots__ = ("keep", "lent", "target", "timings")

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep  # every made picture goes to the store, however it is answered
        self.timings: dict[str, float] = {}  # phase -> seconds
        self.target: str | None = None  # provider/model that was tried last
        self.lent: list[str] = []  # the client's pictures, in the store for a provider that fetches them


async def planned(gateway: Gateway, route: Route, ask: Ask, *, owner: str, strict: bool) -> Planned:
    """Hold the request of the key `owner` against the models where its route leads.

    Raises the `Fault` of what cannot be had, before anything is paid.
    """
    inputs = Inputs()
    if ask.images or ask.mask or ask.markup:
        with refusals(gateway, route):
            check_possible(ask, route.targets)
        inputs = await load(gateway, ask, owner)
    with refusals(gateway, route):
        made = plans(ask, inputs, ordered(route.targets), strict=strict)
    return Planned(replace(ask, images=(), mask=None, markup=None), route, made)


@contextmanager
def refusals(gateway: Gateway, route: Route) -> Iterator[None]:
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
    """Make the pictures and finish them."""
    plan_notes: dict[str, tuple[Note, ...]] = {}
    timings.set(drawing.timings)

    async def settle(job: Job, target: Target) -> Job:
        drawing.target = target.id
        fitted, notes = await gateway.pixels.prepare(job, target.caps)
        plan_notes[target.id] = notes
        return await published(gateway, fitted, target, drawing) if target.caps.inputs == "url" else fitted

    async def emit(partial: Partial) -> None:
        wanted = partial.index < work.ask.partial_images  # some providers send them unasked
        if previews is not None and partial.output.blob is not None and wanted:
            try:
                shape = await gateway.pixels.measure(partial.output.blob)
            except Fault as fault:  # of a preview alone: the picture is still to come
                warn("a preview cannot be used", model=work.route.name, error=fault.message)
                return
            previews.put_nowait(
                Preview(
                    index=partial.index, blob=partial.output.blob, shape=shape, created=answer.now(),
                    quality=work.ask.quality or "auto", background=work.ask.background or "auto",
                )
            )  # fmt: skip

    made = await make(work.route, work.plans, gateway.engine, gateway.health, emit, settle)
    made, pictures, late = await finished(gateway, made, keep=drawing.keep)
    notes = made.plan.notes + plan_notes.get(made.plan.target.id, ()) + late
    return recorded(gateway, made, pictures, notes, work.ask)


async def published(gateway: Gateway, job: Job, target: Target, drawing: Drawing) -> Job:
    """`job` with its pictures at addresses of ours, for models that take them by address only."""
    ours = gateway.config.server.public_url

    async def at(media: Media) -> Media:
        if not ours:
            text = f"{target.id} takes pictures by address only: server.public_url must be set for that."
            raise Fault("invalid", text, code="public_url_required", param="image")
        drawing.lent.append(await gateway.store(media.blob, media.type))
        return replace(media, url=ours.rstrip("/") + gateway.link(drawing.lent[-1]))

    images = tuple([await at(media) for media in job.images])
    return replace(
        job, images=images,
        mask=await at(job.mask) if job.mask else None, markup=await at(job.markup) if job.markup else None,
    )  # fmt: skip


async def load(gateway: Gateway, ask: Ask, owner: str) -> Inputs:
    """Fetch, type and measure the client's pictures; check that the mask is one."""
    if len(ask.images) > (most := gateway.config.limits.images):
        text = f"Too many images: expected at most {most}, but got {len(ask.images)}."
        raise Fault("invalid", text, code="invalid_value", param="image")
    sources: list[Source] = [*ask.images, *(each for each in (ask.mask, ask.markup) if each is not None)]
    tasks = [asyncio.ensure_future(received(gateway, source, owner)) for source in sources]
    try:
        media = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()  # where one cannot be had, nobody waits for the others
    images = tuple(media[: len(ask.images)])
    rest = iter(media[len(ask.images) :])
    mask = next(rest) if ask.mask is not None else None
    markup = next(rest) if ask.markup is not None else None
    return Inputs(images=images, mask=mask, markup=markup)


async def received(gateway: Gateway, source: Source, owner: str) -> Media:
    """One picture of the client's, typed by its first bytes."""
    limits, fetching = gateway.config.limits, gateway.config.fetch
    if isinstance(source, Link):
        bounds = {"bytes": min(fetching.max_bytes, limits.image_bytes), "seconds": fetching.seconds}
        try:
            blob = await fetch.client_picture(gateway.pools, source, bounds, spooled=True)
        except Fault as fault:
            if isinstance(fault.__cause__, Refused):
                gateway.metrics.count("fetch_refused_total", "client", "address")
            raise
    elif isinstance(source, FileRef):
        blob = await gateway.uploads.picture(owner, source, limits.image_bytes)
    else:
        blob = source.blob
    if blob.length > limits.image_bytes:
        text = f"Invalid '{source.param}': the file is larger than {limits.image_bytes} bytes."
        raise Fault("invalid", text, code="invalid_image_file", param=source.param)
    media = await gateway.pixels.typed(blob, source.param)
    if media.type not in READABLE:
        text = (
            f"Invalid file '{source.param}': unsupported mimetype ('{media.type}'). "
            "Supported file formats are 'image/png', 'image/jpeg', 'image/webp', 'image/gif', and 'image/bmp'."
        )
        raise Fault("invalid", text, code="unsupported_file_mimetype", param=source.param)
    if media.width * media.height > limits.image_pixels:
        text = f"Invalid '{source.param}': {media.width}x{media.height} is more than {limits.image_pixels} pixels."
        raise Fault("invalid", text, code="invalid_image_file", param=source.param)
    return media


async def finished(gateway: Gateway, made: Made, *, keep: bool) -> tuple[Made, tuple[Picture, ...], tuple[Note, ...]]:
    """The outputs in the format that was asked for, measured, and stored where an address is to be answered.

    They are paid for: one that cannot be finished as it was asked for is answered as it is, with a note. Only what is
    no picture at all becomes a fault, beside the others.
    """

    async def kept(output: Output) -> tuple[Picture, tuple[Note, ...]] | Fault:
        try:
            return await finish(gateway, made.plan, output, keep=keep)
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
    linked = wish.respond == "url"
    picture = replace(picture, blob=blob, shape=shape, size=blob.length)
    if not (linked or keep):
        return picture, notes
    try:
        with gateway.timed(plan.target.upstream, "store"):
            stored = await gateway.store(blob, shape.type)
    except Exception as error:
        log.error("a made picture is answered, but not kept", exc_info=error)
        gateway.metrics.count("store_failures_total", gateway.files.backend)
        if linked:
            notes += (Note("response_format", "noted", f"response_format url -> b64_json ({word(error)})"),)
        return picture, notes
    if linked:
        picture = replace(picture, blob=None, url=gateway.link(stored))
    return replace(picture, stored=stored), notes


def word(error: Exception) -> str:
    """What went wrong, for a note. What is no fault is ours, and the log has it whole."""
    return error.code or error.kind if isinstance(error, Fault) else "internal_error"


def recorded(gateway: Gateway, made: Made, pictures: Sequence[Picture], notes: tuple[Note, ...], ask: Ask) -> Result:
    """The result, and its numbers in the metrics."""
    target, metrics = made.plan.target, gateway.metrics
    op, names = made.plan.jobs[0].op, (target.upstream.name, target.model)
    sizes = [(each.shape.width, each.shape.height) if each.shape else (0, 0) for each in pictures]
    quality = made.quality or made.plan.jobs[0].quality
    usd = cost(target.caps.prices, op, sizes, quality, made.usage, made.images_in, calls=made.calls)
    usd = dollars(micros(usd))  # header, metric and ledger say the same
    if usd is None:
        metrics.count("unpriced_jobs_total", *names)
    elif usd:
        metrics.count("cost_usd_total", *names, by=usd)
    for width, height in sizes:
        metrics.count("pictures_total", op, *names, tier(width, height))
    for member, direction, modality in TOKENS:
        if counted := getattr(made.usage, member):
            metrics.count("tokens_total", *names, direction, modality, by=counted)
    for note in notes:
        metrics.count("params_changed_total", target.upstream.name, note.param, note.action)
    return Result(
        op=ask.op, model=target.id, pictures=tuple(pictures), created=answer.now(), usage=made.usage,
        finish=made.plan.finish, n=ask.n, notes=notes, faults=made.faults, quality=made.quality,
        background=made.background, cost_usd=usd, wasted_usd=made.wasted_usd,
    )  # fmt: skip


TOKENS = (
    ("input_text", "in", "text"),
    ("input_image", "in", "image"),
    ("output_text", "out", "text"),
    ("output_image", "out", "image"),
)
