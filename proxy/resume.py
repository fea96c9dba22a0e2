"""How a process goes on with tasks that nobody works on any more.

What was submitted is asked for, what was not is begun. What may have been submitted and cannot be looked for has
failed: it is never sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from proxy import draw, inputs, work
from proxy.answer import Result
from proxy.catalog import Route, Target
from proxy.craft import craft_of
from proxy.draw import Drawing, Planned, planned
from proxy.durable import files_of
from proxy.gateway import Gateway
from proxy.logs import log, say
from proxy.plan import Plan
from proxy.state import jobs
from proxy.state.database import milliseconds
from proxy.state.jobs import JobRow, SubmitRow
from proxy.state.ledger import Task
from proxy.trail import Left, read
from proxy.works import Work
from translators.base import Fault, Finder, Job, Op

GRACE = 60.0  # seconds that a task has at least, once another process has it
ADOPTIONS = 20  # after which a task is taken for what ends the processes
AT_ONCE = 20  # tasks that are gone on with before others have their turn
STORE_TRIES = 5  # for what came with a task


async def adopt(gateway: Gateway, tasks: Sequence[str]) -> None:
    """Go on with these, which belong to this process from now on; some at a time, as they may be very many.

    Raises as `Database.read` does: what does not run then is astray, and taken once more.
    """
    left = await gateway.database.read(partial(jobs.left, tasks))
    found = [task for task in await gateway.history.several(tasks, None) if task.ended is None]
    found.sort(key=lambda task: not left[task.id].submits)  # these have their places already
    for number, task in enumerate(found, 1):
        if gateway.draining:  # they are given away again
            return
        if task.id not in gateway.works.running:
            resume(gateway, task, left[task.id].job, left[task.id].submits)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    say("tasks are gone on with", count=len(found), submitted=sum(bool(left[task.id].submits) for task in found))


def resume(gateway: Gateway, task: Task, job: JobRow | None, submits: Sequence[SubmitRow]) -> None:
    """Let it run."""
    trail = gateway.trail(task.id, durable=job is not None and job.work is not None)
    trail.submitted = any(row.call is not None for row in submits)
    trail.progress = job.progress if job else None
    if job is not None and job.cancel is not None:
        trail.cancel()
    trail.queued = job is not None and job.started is None
    making = work.Making(task, trail, files_of(job), job.priority if job else 0)
    doing = asyncio.ensure_future(went_on(gateway, making, job, submits))
    found = Work(task.id, task.key, doing, {"x-pictor-task": task.id})
    found.print, found.claim, found.cache, found.trail = task.fingerprint, task.claim, task.cached, trail
    found.webhook = job.webhook if job else None
    found.lost = task.lost
    work.added(gateway, found, doing)


async def went_on(gateway: Gateway, making: work.Making, job: JobRow | None, submits: Sequence[SubmitRow]) -> Result:
    """What comes of it."""
    if any(tier.concurrent_jobs is not None for tier in gateway.config.tiers.values()):
        await gateway.limits.hold(making.task.key, making.task.id)
    drawing = Drawing(keep=True, sure=True, trail=making.trail)
    return await work.concluded(gateway, making, drawing, brought(gateway, making, job, submits, drawing))


async def brought(
    gateway: Gateway, making: work.Making, job: JobRow | None, submits: Sequence[SubmitRow], drawing: Drawing
) -> Result:
    """Its result, from where it stood."""
    task = making.task
    if job is not None and job.adopted > ADOPTIONS:
        fault = Fault("upstream", "Process after process ended while it worked on this.", code="given_up")
        fault.passing = bool(submits)
        raise fault
    if not submits:
        making.trail.check()
        if job is None or job.work is None:
            raise Fault("upstream", "The server was stopped while it worked on this.", code="interrupted")
        route: Route[Any] = gateway.catalog.route(task.asked, craft_of(op_of(task)).MAKES)
        again = await replanned(gateway, task, job.work, route)
        making.trail.let_go = partial(inputs.let_go, gateway, again.given, job.work["given"])
        return await draw.draw(gateway, again, drawing)
    latest = max(submits, key=lambda row: row.sent).target  # a fallback's, where there were several
    left = {row.number: read(row) for row in submits if row.target == latest}
    making.trail.left = left
    drawing.target = latest
    target = target_of(gateway, task, latest)
    plan = await remade(gateway, task, job, target, left)
    started = (job.started if job else None) or task.created
    ends = max(started / 1000 + target.upstream.job_seconds - milliseconds() / 1000, GRACE)
    return await draw.go_on(gateway, op_of(task), plan, left, drawing, asyncio.get_running_loop().time() + ends)


def op_of(task: Task) -> Op:
    """What was asked for: rows have it as text."""
    return cast("Op", task.op)


def target_of(gateway: Gateway, task: Task, id: str) -> Target[Any]:
    """Where it was submitted. Raises where that is served no more: the provider has it all the same."""
    try:
        route: Route[Any] = gateway.catalog.route(id, craft_of(op_of(task)).MAKES)
    except Fault as fault:
        fault.passing = True
        raise
    return route.targets[0]


async def remade(
    gateway: Gateway, task: Task, job: JobRow | None, target: Target[Any], left: Mapping[int, Left]
) -> Plan[Any]:
    """The plan whose submits these are; its jobs are whole where some must be sent still, and can be."""
    first = next(iter(left.values())).saved
    found = [left[number].saved.job if number in left else first.job for number in range(first.count)]
    missing = len(left) < first.count or any(each.wait is None for each in left.values())
    if missing and job is not None and job.work is not None:
        found = await whole(gateway, task, job.work, target, found)
    return Plan(target=target, jobs=tuple(found), finish=first.finish, notes=first.notes)


async def whole(gateway: Gateway, task: Task, said: dict[str, Any], target: Target[Any], bare: list[Job]) -> list[Job]:
    """The jobs with what is to be sent; as they were, where they cannot be made again as they were then."""
    if all(not isinstance(target.upstream.translator, Finder) or job.mark is None for job in bare) and len(bare) == 1:
        return bare  # it is not sent again, whatever it holds
    try:
        again = await replanned(gateway, task, said, Route(task.asked, (target,)))
    except Fault as fault:
        log.warning("a task cannot be planned again", extra={"task": task.id, "error": fault.message})
        return bare
    jobs = again.plans[0].jobs
    return list(jobs) if len(jobs) == len(bare) else bare


async def replanned(gateway: Gateway, task: Task, said: dict[str, Any], route: Route[Any]) -> Planned:
    """The request held against its models once more, with what came with it. Raises as that did at first."""
    craft = craft_of(op_of(task))
    ask = msgspec.convert(said["ask"], craft.ASK)
    given = await stored(gateway, craft.INPUTS, said["given"])
    return await planned(gateway, route, ask, owner=task.key, strict=said["strict"], given=given)


async def stored(gateway: Gateway, kind: type[msgspec.Struct], told: dict[str, Any]) -> msgspec.Struct:
    """What came with it. A store that is away is waited for: nothing is paid yet."""
    for tried in range(STORE_TRIES):
        try:
            return await inputs.again(gateway, kind, told)
        except Fault as fault:
            if fault.kind == "missing" or tried == STORE_TRIES - 1:
                raise
            await asyncio.sleep(2.0**tried)
    raise AssertionError("unreachable: the last try returns or raises")
