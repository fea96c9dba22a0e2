"""One making call from its admission to its row. What it makes is not lost with the client that asked for it.

    known already? -> planned -> admitted -> reserved -> drawn -> stored -> written down -> answered

The work runs in a task of its own: a client that leaves only ceases to wait for it. It finds the result by the same
`Idempotency-Key`, or its SDK does by trying again. What is durable has all that it needs in a row: see `durable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy import durable, inputs, prices, record
from proxy.answer import Preview, Result
from proxy.catalog import Route
from proxy.craft import AnyAsk, craft_of
from proxy.draw import Drawing, Planned, draw, planned
from proxy.gateway import Gateway
from proxy.keys import Caller, check_model
from proxy.known import Marks, Wanted, by_claim, find, just_failed, marked
from proxy.limits import Admission, check_request, check_size
from proxy.logs import log, say
from proxy.places import Asking, asking
from proxy.state import ids
from proxy.state.database import milliseconds
from proxy.state.deliveries import Delivery, events
from proxy.state.ledger import Ending, JobRow, Reservation, Task
from proxy.trail import LetGo, Trail
from proxy.webhooks import check_url
from proxy.works import Work
from translators.base import Fault

LATE = 0.25  # seconds after which a call is written down as under way


async def begin(gateway: Gateway, wanted: Wanted, previews: asyncio.Queue[Preview] | None = None) -> Work:
    """The work of this call: begun, or found where it is the same as one before.

    Raises the `Fault` of what cannot be had, before anything is paid.
    """
    ask, caller = wanted.ask, wanted.caller
    route: Route[Any] = gateway.catalog.route(ask.model, craft_of(ask.op).MAKES)
    check_model(caller, route.name)
    if ask.webhook_url is not None:
        check_url(ask.webhook_url, "webhook_url", gateway.pools.allowed)
        wanted = replace(wanted, durable=True)  # whoever is to be told must be told whatever becomes of this process
    if wanted.durable:
        durable.check(gateway)
    marks = await marked(wanted, route)
    try:
        check_request(caller.tier, ask.n, ask.size)
        async with gateway.works.alone(marks.claim or marks.cached):
            if known := await find(gateway, wanted, marks, route):
                return known
            if gateway.config.history.enabled:
                gateway.ledger.check()
            work = await planned(gateway, route, ask, owner=caller.id, strict=wanted.strict)
            for plan in work.plans:
                for job in plan.jobs:
                    check_size(caller.tier, *(job.size or (0, 0)))
            return await admitted(gateway, wanted, *within_budget(gateway, caller, work), marks, previews)
    except Fault as fault:
        gateway.works.failed(marks.print, fault)
        raise


async def admitted(
    gateway: Gateway, wanted: Wanted, planned: Planned, most: float | None, marks: Marks,
    previews: asyncio.Queue[Preview] | None,
) -> Work:  # fmt: skip
    """Begin the work, if the key's limits and budgets allow it; `most` is what it may cost of them in US dollars."""
    caller, id = wanted.caller, ids.new("task_")
    try:
        admission = await gateway.limits.admit(caller.id, caller.tier, caller.tier_name, planned.ask.n, id)
    except Fault as fault:
        limited(gateway, caller, fault)
        raise
    claimed = False
    kept: list[str] = []
    try:
        task = replace(row_of(gateway, wanted, planned, marks, id), estimate=prices.micros(most))
        job = await durable.job_of(gateway, wanted, planned, task, kept) if wanted.durable else None
        if job is not None and job.started is None:
            task = replace(task, status="queued")
        if (job or task.claim is not None) and not (claimed := await gateway.ledger.open(task, job)):
            gateway.aside(taken_back(gateway, kept))
            await gateway.limits.release(caller.id, id)  # it waits for the one that was quicker, and is no job
            found = await by_claim(gateway, wanted, marks)
            if found is None:
                raise just_failed()
            return found
        await reserved(gateway, caller, task)
    except BaseException:
        if claimed:
            gateway.ledger.withdraw(id)
        if kept:
            gateway.aside(taken_back(gateway, kept))
        await gateway.limits.release(caller.id, id)
        raise
    return start(gateway, wanted, planned, marks, task, admission, previews, job)


def limited(gateway: Gateway, caller: Caller, fault: Fault) -> None:
    """Count a refusal for a limit of the key's."""
    gateway.metrics.count("limited_total", caller.tier_name or "none", LIMITS.get(fault.type or "", "images"))


LIMITS = {"requests": "requests", "concurrent-jobs": "concurrent"}
"""What OpenAI calls a limit, and what its metric does."""


def within_budget(gateway: Gateway, caller: Caller, planned: Planned) -> tuple[Planned, float | None]:
    """The most that it may cost of the key's budgets, and the plans without those that no budget could bound.

    Where such plans are allowed, they count for nothing. Raises `Fault("quota")` where none is left.
    """
    if caller.tier.budget_usd_per_day is None and caller.tier.budget_usd_per_month is None:
        return planned, None
    known = [(plan, usd) for plan in planned.plans if (usd := planned.craft.most(plan, planned.given)) is not None]
    most = max((usd for _, usd in known), default=None)  # no other is carried out with the one that is
    if gateway.config.prices.unknown == "allow":
        return planned, most
    if known:
        return replace(planned, plans=tuple(plan for plan, _ in known)), most
    raise Fault(
        "quota",
        f"The price of '{planned.route.name}' is not known, and the key '{caller.name}' has a budget. Ask for a "
        "model with a known price, or set its prices in the configuration.",
        code="price_unknown",
        param="model",
    )


async def reserved(gateway: Gateway, caller: Caller, task: Task) -> None:
    """Keep what the call may cost free of the key's budgets. Raises `Fault("quota")` where they have too little."""
    if task.estimate is None:
        return
    day, month = caller.tier.budget_usd_per_day, caller.tier.budget_usd_per_month
    short = await gateway.ledger.reserve(
        Reservation(
            task=task.id, key=caller.id, at=task.created, amount=task.estimate or 0, worker=gateway.worker,
            per_day=prices.micros(day), per_month=prices.micros(month),
        )
    )  # fmt: skip
    if short is not None:
        gateway.metrics.count("limited_total", caller.tier_name or "none", "budget")
        raise Fault(
            "quota",
            f"You exceeded your current quota: the budget of the key '{caller.name}' for this {short} has not enough "
            "left for this call. See GET /v1/account.",
            code="insufficient_quota",
        )


def row_of(gateway: Gateway, wanted: Wanted, planned: Planned, marks: Marks, id: str) -> Task:
    """The row of a call that is about to begin."""
    ask = planned.ask
    prompts = gateway.config.history.prompts
    request = planned.craft.request(ask, planned.given, planned.plans, prompts=prompts)
    return Task(
        id=id, key=wanted.caller.id, created=milliseconds(), op=ask.op, asked=planned.route.name,
        model=planned.plans[0].target.id, request=request, metadata=ask.metadata or None,
        fingerprint=marks.print, cached=marks.cached,
        claim=marks.claim if gateway.config.history.enabled else None, worker=gateway.worker,
        request_id=wanted.request_id,
    )  # fmt: skip


def start(
    gateway: Gateway, wanted: Wanted, planned: Planned, marks: Marks, task: Task, admission: Admission,
    previews: asyncio.Queue[Preview] | None, job: JobRow | None,
) -> Work:  # fmt: skip
    """Let it run, beside the request that asked for it. It does not hold what was sent: the plans have the pictures."""
    trail = gateway.trail(task.id, durable=job is not None)
    trail.queued = job is not None and job.started is None
    making = Making(task, trail, durable.files_of(job), wanted.caller.tier.priority)
    doing = asyncio.ensure_future(run(gateway, planned, making, previews))
    work = Work(task.id, task.key, doing, {**admission.headers, "x-pictor-task": task.id})
    work.print, work.claim, work.cache = marks.print, marks.claim, marks.cached
    work.trail, work.webhook = trail, job.webhook if job else None
    if job is not None and job.work is not None:
        trail.let_go = partial(inputs.let_go, gateway, planned.given, job.work["given"])
    if gateway.config.history.enabled:
        trail.begun = lambda: gateway.ledger.begin(replace(task, fingerprint=work.print))
    added(gateway, work, doing)
    if marks.print is None:
        gateway.aside(printed(gateway, work, task, wanted.ask))
    return work


def added(gateway: Gateway, work: Work, doing: asyncio.Future[Result]) -> None:
    """It runs from now on."""
    gateway.works.add(work)
    doing.add_done_callback(lambda done: finished(gateway, work, done))


async def printed(gateway: Gateway, work: Work, task: Task, ask: AnyAsk) -> None:
    """Take the fingerprint of a large request while it is worked on, so that a try again finds it anywhere."""
    print = record.mark("call", task.key, await asyncio.to_thread(record.content, replace(ask, model=task.asked)))
    del ask  # and its pictures
    work.print = print
    await asyncio.sleep(LATE)
    if work.id in gateway.works.running and gateway.config.history.enabled:
        gateway.ledger.begin(replace(task, fingerprint=print))


def finished(gateway: Gateway, work: Work, done: asyncio.Future[Result]) -> None:
    """It runs no more: forget it, and say so where nobody waits."""
    gateway.works.drop(work)
    fault = None if done.cancelled() else done.exception()  # asking counts as having seen it
    if isinstance(fault, Fault) and not work.lost:  # else nobody heard it: a try again is for the same picture
        gateway.works.failed(work.print, fault)
    if work.lost:
        say("a call ended after its client had left", task=work.id, fault=str(fault) if fault else None)


class Making(msgspec.Struct, frozen=True):
    """A call while it is made."""

    task: Task
    trail: Trail
    files: Sequence[str] = ()  # what came with it, in the store until it has ended
    priority: int = 0  # where it waits for a place


async def run(gateway: Gateway, planned: Planned, making: Making, previews: asyncio.Queue[Preview] | None) -> Result:
    """Draw, and write down what came of it, whatever that is."""
    history, task = gateway.config.history.enabled, making.task
    late = None
    if history and task.fingerprint is not None:  # else it is written down with that, once it is known
        late = asyncio.get_running_loop().call_later(LATE, gateway.ledger.begin, task)
    sure = making.trail.durable
    drawing = Drawing(
        keep=sure or (history and gateway.config.history.outputs), sure=sure, trail=making.trail if history else None
    )
    try:
        return await concluded(gateway, making, drawing, draw(gateway, planned, drawing, previews))
    finally:
        if late is not None:
            late.cancel()


async def concluded(gateway: Gateway, making: Making, drawing: Drawing, drawn: Coroutine[Any, Any, Result]) -> Result:
    """The result, once it is written down with its cost; or the fault that ended it, likewise.

    What another process goes on with is not ended: who waits is told so.
    """
    task, trail, history = making.task, making.trail, gateway.config.history
    asking.set(Asking(task.id, task.key, making.priority, task.created))
    try:
        result = await drawn
    except BaseException as error:
        if isinstance(error, LetGo) or (
            isinstance(error, asyncio.CancelledError) and (trail.durable or trail.submitted)
        ):
            making = replace(making, files=())
            drawing.lent.clear()  # the provider may not have fetched them yet
            raise handed_over(task.id) from error
        fault = as_ended(error, tried=drawing.target is not None)
        if fault.code == "deadline_exceeded" and trail.submitted:
            fault.message += f" The provider has it still: the task {task.id} can be resumed."
        elif fault.code == "ambiguous" and trail.durable:
            fault.code = "submit_uncertain"
        if history.enabled:
            ending = record.failed(
                task, fault, drawing.timings, drawing.target, durable=trail.has_rows, submitted=trail.submitted
            )
            await written(gateway, ending)
        if fault is error:
            raise
        raise fault from error
    else:
        if history.enabled:
            ending = record.completed(task, result, drawing.timings, prompts=history.prompts, durable=trail.has_rows)
            await written(gateway, ending)
        return result
    finally:
        if gone := [*drawing.lent, *making.files]:
            gateway.aside(taken_back(gateway, gone))
        await gateway.limits.release(task.key, task.id)


def handed_over(task: str) -> Fault:
    """For who waits here: the task goes on, but not in this process."""
    text = f"The server is stopping; the task goes on. GET /v1/tasks/{task} tells how."
    return Fault("overloaded", text, code="draining", retry_after=5)


async def taken_back(gateway: Gateway, lent: list[str]) -> None:
    """Delete pictures that a provider has fetched by now."""
    with suppress(Fault):  # else they go when they are past their time
        await gateway.files.delete(lent)


def as_ended(error: BaseException, *, tried: bool) -> Fault:
    """How a call ended that made nothing. What nobody foresaw may have come after the picture was paid for."""
    match error:
        case Fault():
            return error
        case asyncio.CancelledError():
            text = "The server was stopped before the answer came. It may be made, and charged, all the same."
            return Fault("overloaded", text, code="ambiguous")
        case _:
            log.error("unforeseen error", exc_info=error)
            text = "An error occurred while processing your request. It has been logged."
            fault = Fault("upstream", text, code="internal_error")
            fault.passing = tried
            return fault


async def written(gateway: Gateway, ending: Ending) -> None:
    """Write it down, and who is to be told. A picture that is paid is answered even where that fails."""
    told: tuple[Delivery, ...] = ()
    task, work = ending.task, gateway.works.running.get(ending.task.id)
    if work is not None:
        task = replace(task, lost=work.lost, fingerprint=task.fingerprint or work.print)
        if work.cache is not None and task.status == "completed":
            gateway.works.cached[work.cache] = task
        if work.webhook is not None:
            told = events(task, work.webhook, task.ended or milliseconds())
    try:
        await gateway.ledger.end(replace(ending, task=task, told=told))
        if told:
            gateway.webhooks.wake()
    except Exception as error:
        log.error("the end of a task cannot be written", exc_info=error, extra={"task": ending.task.id})


def left(gateway: Gateway, work: Work) -> None:
    """The client of this work has gone without its answer."""
    if gateway.works.running.get(work.id, work) is not work:
        return  # it only shared that of another call, whose client may be there
    work.lost = True
    if gateway.config.history.enabled:
        gateway.ledger.lost(work.id)
