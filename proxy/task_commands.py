"""The commands that work on tasks: `pictor tasks`. What is to be done about one, a server does within a few seconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from proxy.api.progress import not_resumable
from proxy.api.tasks import TaskList, TaskObject, described
from proxy.standing import standings
from proxy.state import jobs
from proxy.state.database import Database
from proxy.state.history import Filters, History
from proxy.state.records import Task
from proxy.terminal import table
from translators.base import Fault

PAGE = 100


async def show_all(database: Database, options: argparse.Namespace) -> None:
    """`pictor tasks list`."""
    history = History(database)
    filters = Filters(status=options.status, model=options.model)
    tasks: list[Task] = []
    more = True
    while more and len(tasks) < options.limit:
        least = min(PAGE, options.limit - len(tasks))
        page = await history.page(options.key, least, after=tasks[-1].id if tasks else None, filters=filters)
        tasks += page.tasks
        more = page.more
    found = await told(database, tasks)
    if options.json:
        ends = (found[0].id, found[-1].id) if found else (None, None)
        printed(TaskList(data=found, first_id=ends[0], last_id=ends[1], has_more=more))
        return
    table([("ID", "CREATED", "STATE", "DOES", "MODEL", "COST", "ERROR"), *map(line, found)], indent="")


async def show(database: Database, options: argparse.Namespace) -> None:
    """`pictor tasks show`."""
    await answered(database, options)


async def cancel(database: Database, options: argparse.Namespace) -> None:
    """`pictor tasks cancel`: the server that works on it looks for that every second."""
    task = await History(database).one(options.task, None)
    await database.write(partial(jobs.ask_for_end, task.id))
    await answered(database, options)
    if task.ended is None:
        print(f"pictor: a server ends {task.id} within a few seconds", file=sys.stderr)


async def resume(database: Database, options: argparse.Namespace) -> None:
    """`pictor tasks resume`: the next server that looks for work goes on with it."""
    if not await database.write(partial(jobs.reopened, options.task, None)):
        task = await History(database).one(options.task, None)
        raise not_resumable(task) if task.ended is not None else under_way(task)
    await answered(database, options)
    print(f"pictor: a server goes on with {options.task} within a few seconds", file=sys.stderr)


def under_way(task: Task) -> Fault:
    """Of a task that has not ended."""
    return Fault("invalid", f"The task '{task.id}' is under way.", code="task_running")


TASKS: Mapping[str, Callable[[Database, argparse.Namespace], Coroutine[Any, Any, None]]] = {
    "list": show_all, "show": show, "cancel": cancel, "resume": resume,
}  # fmt: skip


async def answered(database: Database, options: argparse.Namespace) -> None:
    """The task as it is now, for a person or a program."""
    (found,) = await told(database, [await History(database).one(options.task, None)])
    if options.json:
        printed(found)
        return
    table(((name, spelled(name, value)) for name, value in msgspec.to_builtins(found).items()), indent="")


async def told(database: Database, tasks: Sequence[Task]) -> list[TaskObject]:
    """As `GET /v1/admin/tasks` tells them, but for links: those a server gives."""
    known = await standings(database, {}, tasks)
    return [described(task, None, known[task.id], with_key=True) for task in tasks]


def printed(told: msgspec.Struct) -> None:
    """For a program."""
    print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())


def spelled(name: str, value: Any) -> str:
    """A member of a task on a line."""
    if value is None or value in ([], {}):
        return "-"
    if name.endswith("_at"):
        return date(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def date(at: int) -> str:
    """A time in seconds since 1970."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S UTC}"


def line(task: TaskObject) -> tuple[str, ...]:
    """One line of the table."""
    state = f"{task.status} {task.progress} %" if task.status == "in_progress" else task.status
    if task.cancelling:
        state = "cancelling"
    elif task.resumable:
        state += ", resumable"
    cost = "-" if task.cost_usd is None else f"{task.cost_usd:g}"
    error = "-" if task.error is None else task.error.code or task.error.type
    return task.id, date(task.created_at), state, task.operation, task.model, cost, error
