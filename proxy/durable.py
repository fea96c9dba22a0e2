"""Tasks that outlive the process that took them: what their rows hold, and what is done beside them. See `resume`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from proxy import inputs
from proxy.draw import Planned
from proxy.gateway import Gateway
from proxy.known import Wanted
from proxy.logs import log
from proxy.state import jobs
from proxy.state.database import milliseconds
from proxy.state.jobs import JobRow
from proxy.state.ledger import Task
from translators.base import Fault

LOOK = 1.0  # seconds between two looks for tasks whose end somebody wants
TELL = 5.0  # … and between two words on how far they have come


def check(gateway: Gateway) -> None:
    """Raises where there is nowhere to write a task down."""
    if not gateway.config.history.enabled:
        text = "This server keeps no tasks: its history is switched off (history.enabled)."
        raise Fault("invalid", text, code="history_disabled")


async def job_of(gateway: Gateway, wanted: Wanted, planned: Planned, task: Task, kept: list[str]) -> JobRow:
    """What any process can make it from; the ids of what came with it are added to `kept`."""
    ask, first = planned.ask, planned.plans[0].target.upstream.name
    return JobRow(
        task=task.id,
        key=task.key,
        queue=first,
        priority=wanted.caller.tier.priority,
        webhook=ask.webhook_url or wanted.caller.webhook,
        started=None if gateway.places.at(first) else milliseconds(),
        work={
            "ask": msgspec.to_builtins(replace(ask, webhook_url=None)),
            "strict": wanted.strict,
            "given": await inputs.keep(gateway, planned.given, kept),
        },
    )


def files_of(job: JobRow | None) -> Sequence[str]:
    """What came with it, in the store."""
    return inputs.ids(job.work["given"]) if job is not None and job.work is not None else ()


# ---- beside


async def tend(gateway: Gateway) -> None:
    """Look for tasks whose end somebody wants, and tell how far the others have come. Runs to the end of the server."""
    told: dict[str, int] = {}
    next_word = 0.0
    while True:
        await asyncio.sleep(LOOK)
        running = gateway.works.running
        if not running or not gateway.database.up:
            continue
        try:
            for id in await gateway.database.read(partial(jobs.unwanted, gateway.worker)):
                if (found := running.get(id)) and found.trail and not found.trail.cancelled:
                    found.trail.cancel()
            now = asyncio.get_running_loop().time()
            if now >= next_word:
                next_word = now + TELL
                told = await tell(gateway, told)
        except Fault:
            continue
        except Exception as error:
            log.error("unforeseen error beside the tasks", exc_info=error)


async def tell(gateway: Gateway, told: Mapping[str, int]) -> dict[str, int]:
    """Write down how far the durable tasks of this process have come, where that has changed."""
    now = {
        work.id: work.trail.progress
        for work in gateway.works.running.values()
        if work.trail and work.trail.durable and work.trail.progress is not None
    }
    if news := {id: per_cent for id, per_cent in now.items() if told.get(id) != per_cent}:
        await gateway.database.write(partial(jobs.told, news))
    return now


async def cancel(gateway: Gateway, task: Task) -> None:
    """Ask for the end of a task, wherever it runs."""
    if (found := gateway.works.running.get(task.id)) and found.trail is not None:
        found.trail.cancel()
    await gateway.database.write(partial(jobs.ask_for_end, task.id))
