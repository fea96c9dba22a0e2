"""One making call from its admission to its row. What it makes is not lost with the client that asked for it.

    known already? -> planned -> admitted -> reserved -> drawn -> stored -> written down -> answered

The work runs in a task of its own: a client that leaves only ceases to wait for it. It finds the result by the same
`Idempotency-Key`, or its SDK does by trying again.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from proxy import prices, record
from proxy.answer import Preview, Result
from proxy.draw import Drawing, Planned, draw, planned
from proxy.gateway import Gateway
from proxy.keys import Caller, check_model
from proxy.known import Marks, Wanted, by_claim, find, marked
from proxy.limits import Admission, check_request, check_size
from proxy.logs import log, say
from proxy.state import ids
from proxy.state.database import milliseconds
from proxy.state.ledger import Ending, Reservation, Task
from proxy.works import Work
from translators.base import Fault

LATE = 0.25  # seconds after which a call is written down as under way


async def begin(gateway: Gateway, wanted: Wanted, previews: asyncio.Queue[Preview] | None = None) -> Work:
    """The work of this call: begun, or found where it is the same as one before.

    Raises the `Fault` of what cannot be had, before anything is paid.
    """
    ask, caller = wanted.ask, wanted.caller
    route = gateway.catalog.route(ask.model)
    check_model(caller, route.name)
    marks = await marked(wanted, route)
    try:
        async with gateway.works.alone(marks.claim or marks.cached):
            if known := await find(gateway, wanted, marks, route):
                return known
            if gateway.config.history.enabled:
                gateway.ledger.check()
            check_request(caller.tier, ask.n, ask.size)
            work = await planned(gateway, ask, owner=caller.id, strict=wanted.strict, address=wanted.address)
            for plan in work.plans:
                for job in plan.jobs:
                    check_size(caller.tier, *(job.size or (0, 0)))
            return await admitted(gateway, wanted, within_budget(gateway, caller, work), marks, previews)
    except Fault:
        gateway.works.failed(marks.print)
        raise


async def admitted(
    gateway: Gateway, wanted: Wanted, planned: Planned, marks: Marks, previews: asyncio.Queue[Preview] | None
) -> Work:
    """Begin the work, if the key's limits and budgets allow it."""
    caller, id = wanted.caller, ids.new("task_")
    try:
        admission = await gateway.limits.admit(caller.id, caller.tier, caller.tier_name, planned.ask.n, id)
    except Fault as fault:
        limited(gateway, caller, fault)
        raise
    claimed = False
    try:
        task = row_of(gateway, wanted, planned, marks, id)
        if bounded(caller):
            task = replace(task, estimate=prices.micros(prices.estimate(planned.plans)))
        if task.claim is not None and not (claimed := await gateway.ledger.claim(task)):
            found = await by_claim(gateway, wanted, marks)  # another was quicker
            if found is None:
                raise Fault("overloaded", "The same call has just failed.", code="server_is_overloaded", retry_after=1)
            await gateway.limits.release(caller.id, id)
            return found
        await reserved(gateway, caller, task)
    except BaseException:
        if claimed:
            gateway.ledger.withdraw(id)
        await gateway.limits.release(caller.id, id)
        raise
    return start(gateway, wanted, planned, marks, task, admission, previews)


def limited(gateway: Gateway, caller: Caller, fault: Fault) -> None:
    """Count a refusal for a limit of the key's."""
    gateway.metrics.count("limited_total", caller.tier_name or "none", LIMITS.get(fault.type or "", "images"))


LIMITS = {"requests": "requests", "concurrent-jobs": "concurrent"}
"""What OpenAI calls a limit, and what its metric does."""


def bounded(caller: Caller) -> bool:
    """Whether a budget bounds what it may spend."""
    return caller.tier.budget_usd_per_day is not None or caller.tier.budget_usd_per_month is not None


def within_budget(gateway: Gateway, caller: Caller, planned: Planned) -> Planned:
    """Without the plans that no budget could bound. Raises `Fault("quota")` where none is left."""
    if not bounded(caller) or gateway.config.prices.unknown == "allow":
        return planned
    if plans := prices.priced(planned.plans):
        return replace(planned, plans=plans)
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
    request = record.request_of(ask, prompts=gateway.config.history.prompts)
    if wanted.ask.images:
        request["images"] = len(wanted.ask.images)
    return Task(
        id=id, key=wanted.caller.id, created=milliseconds(), op=ask.op, asked=planned.route.name,
        model=planned.plans[0].target.id, request=request, metadata=ask.metadata or None,
        fingerprint=marks.row,
        claim=marks.claim if gateway.config.history.enabled else None, worker=gateway.worker,
        request_id=wanted.request_id,
    )  # fmt: skip


def start(
    gateway: Gateway, wanted: Wanted, planned: Planned, marks: Marks, task: Task, admission: Admission,
    previews: asyncio.Queue[Preview] | None,
) -> Work:  # fmt: skip
    """Let it run, beside the request that asked for it."""
    doing = asyncio.ensure_future(run(gateway, wanted, planned, task, previews))
    work = Work(task.id, doing, {**admission.headers, "x-pictor-task": task.id})
    work.print, work.claim, work.cache = marks.print, marks.claim, marks.cached
    gateway.works.add(work, marks.print, marks.claim, marks.cached)
    doing.add_done_callback(lambda done: finished(gateway, work, done))
    if marks.print is None and not doing.done():
        gateway.aside(printed(gateway, work, wanted))
    return work


async def printed(gateway: Gateway, work: Work, wanted: Wanted) -> None:
    """Take the fingerprint of a large request while it is worked on, so that a try again finds it."""
    route = gateway.catalog.route(wanted.ask.model)
    ask = replace(wanted.ask, model=route.name)
    work.print = await asyncio.to_thread(record.fingerprint, wanted.caller.id, ask)
    if work.id in gateway.works.running:
        gateway.works.by_mark[work.print] = work


def finished(gateway: Gateway, work: Work, done: asyncio.Future[Result]) -> None:
    """It runs no more: forget it, and say so where nobody waits."""
    gateway.works.drop(work)
    fault = None if done.cancelled() else done.exception()  # asking counts as having seen it
    if isinstance(fault, Fault):
        gateway.works.failed(work.print)
    if work.lost:
        say("a call ended after its client had left", task=work.id, fault=str(fault) if fault else None)


async def run(
    gateway: Gateway, wanted: Wanted, planned: Planned, task: Task, previews: asyncio.Queue[Preview] | None
) -> Result:
    """Draw, and write down what came of it, whatever that is."""
    history = gateway.config.history.enabled
    late = asyncio.get_running_loop().call_later(LATE, gateway.ledger.begin, task) if history else None
    drawing = Drawing(keep=history and gateway.config.history.outputs)
    try:
        result = await draw(gateway, planned, drawing, previews)
    except BaseException as error:
        fault = as_ended(error)
        await written(gateway, record.failed(task, fault, drawing.timings, drawing.target))
        if fault is error:
            raise
        raise fault from error
    else:
        await written(gateway, record.completed(task, result, drawing.timings))
        return result
    finally:
        if late is not None:
            late.cancel()
        await gateway.limits.release(wanted.caller.id, task.id)


def as_ended(error: BaseException) -> Fault:
    """How a call ended that made nothing."""
    match error:
        case Fault():
            return error
        case asyncio.CancelledError():
            text = "The server was stopped before the answer came. It may be made, and charged, all the same."
            return Fault("overloaded", text, code="ambiguous")
        case _:
            log.error("unforeseen error", exc_info=error)
            text = "An error occurred while processing your request. It has been logged."
            return Fault("upstream", text, code="internal_error")


async def written(gateway: Gateway, ending: Ending) -> None:
    """Write it down. A picture that is paid is answered even where that fails."""
    if not gateway.config.history.enabled:
        return
    task, work = ending.task, gateway.works.running.get(ending.task.id)
    if work is not None:
        task = replace(task, lost=work.lost, fingerprint=task.fingerprint or work.print)
        if work.cache is not None and task.status == "completed":
            gateway.works.cached[work.cache] = task
    try:
        await gateway.ledger.end(Ending(task, ending.entry))
    except Exception as error:
        log.error("the end of a task cannot be written", exc_info=error, extra={"task": ending.task.id})


def left(gateway: Gateway, work: Work) -> None:
    """The client of this work has gone without its answer."""
    work.lost = True
    if gateway.config.history.enabled:
        gateway.ledger.lost(work.id)
