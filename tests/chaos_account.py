"""What must hold once everything has come to an end, whatever befell the servers meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import sqlalchemy as sa

from tests.chaos_fleet import Blow, Fleet, fetched, kind_of
from tests.chaos_provider import Paid, made

FRESH = 2.0  # seconds before a kill in which an answer may not be written down yet: a process may have much to do
GATE = 16  # submits of a process at once
BACK_WITHIN = 10.0  # seconds after the database is back
TAKEN_OVER = 30.0  # seconds within which another process goes on
UNKNOWN = ("submit_uncertain", "interrupted", "ambiguous")


class Figure(NamedTuple):
    """One line of the table; without a bound it only tells."""

    name: str
    found: Any
    wanted: str = ""
    holds: bool = True


def figures(fleet: Fleet, tasks: Sequence[dict[str, Any]]) -> list[Figure]:
    """Everything that is counted."""
    return [*of_tasks(fleet, tasks), *of_money(fleet, tasks), *of_blows(fleet, tasks)]


def of_tasks(fleet: Fleet, tasks: Sequence[dict[str, Any]]) -> list[Figure]:
    rows = {each["id"]: each for each in tasks}
    prompts = Counter(each["request"]["prompt"] for each in tasks)
    open_ = [each["id"] for each in tasks if each["status"] in {"queued", "in_progress"}]
    lost = [id for id in fleet.taken.values() if id not in rows]
    mixed = [id for prompt, id in fleet.taken.items() if id in rows and rows[id]["request"]["prompt"] != prompt]
    done = [each for each in tasks if each["status"] == "completed"]
    with ThreadPoolExecutor(8) as pool:
        wrong = [id for id in pool.map(lambda each: not_its_own(fleet, each), done) if id]
    statuses = Counter(each["status"] for each in tasks)
    errors = Counter((each["error"] or {}).get("code") for each in tasks if each["error"])
    whole = [prompt for prompt, told in fleet.told.items() if told == "completed"]
    broken = [prompt for prompt in whole if rows[fleet.taken[prompt]]["status"] != "completed"]
    return [
        Figure("asked for", fleet.asked),
        Figure("answered", len(fleet.told), f"= {fleet.asked}", len(fleet.told) == fleet.asked),
        Figure("told to come again meanwhile", told(fleet.refused) or "none"),
        Figure("rows", len(tasks), f"= {fleet.asked}", len(tasks) == len(prompts) == fleet.asked),
        Figure("ended as", told(statuses)),
        Figure("errors", told(errors) or "none"),
        Figure("answered, not there", lost or 0, "= 0", not lost),
        Figure("answered with another's task", mixed or 0, "= 0", not mixed),
        Figure("answered as made, not so", broken or 0, "= 0", not broken),
        Figure("without an end", open_ or 0, "= 0", not open_),
        Figure("completed without its own bytes", wrong or 0, "= 0", not wrong),
        Figure("errors nobody foresaw", sorted({*errors} - {*UNKNOWN}) or 0, "= 0", not {*errors} - {*UNKNOWN}),
    ]


def told(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def not_its_own(fleet: Fleet, task: dict[str, Any]) -> str | None:
    """Its id, where what is kept is not what the provider made for it, to the last byte."""
    prompt = task["request"]["prompt"]
    url = task["outputs"][0]["url"]
    data = fetched(fleet.members[-1].server, url).content if url else b""
    video = kind_of(prompt) in {"film", "clip"}
    return None if data == made(prompt, video=video) else task["id"]


def of_money(fleet: Fleet, tasks: Sequence[dict[str, Any]]) -> list[Figure]:
    """What was paid, and what is held."""
    paid = fleet.provider.prompts
    twice = [prompt for prompt, count in paid.items() if count > 1]
    unpaid = [each["id"] for each in tasks if each["status"] == "completed" and not paid[each["request"]["prompt"]]]
    held = rows_left(fleet)
    ends = {each["id"] for each in tasks if each["status"] in {"completed", "failed", "cancelled"}}
    again = {"submit_uncertain", "deadline_exceeded", "interrupted"}
    resumable = {each["id"] for each in tasks if each["error"] and each["error"]["code"] in again}
    unheard = {each["id"] for each in tasks if each["error"] and each["error"]["code"] == "interrupted"}
    entries = held["entry"]  # nobody knows what an interrupted one cost: it has none
    spent = round(sum(each["cost_usd"] or 0 for each in tasks) * 1_000_000)
    return [
        Figure("paid", sum(paid.values())),
        Figure("paid twice", twice or 0, "= 0", not twice),
        Figure("completed, never paid", unpaid or 0, "= 0", not unpaid),
        Figure("ledger entries", len(entries), f"= {len(ends - unheard)}", entries | unheard == ends),
        Figure("rows in job", len(held["job"]), "= 0", not held["job"]),
        Figure("rows in submit", len(held["submit"]), "only resumable", held["submit"] <= resumable),
        Figure("rows in reservation, slot", len(held["reservation"] | held["slot"]), "= 0",
               not held["reservation"] | held["slot"]),
        Figure("reserved of budgets", held["reserved"], "= 0", held["reserved"] == 0),
        Figure("spent of budgets, microdollars", held["spent"], f"= {spent}", held["spent"] == spent),
    ]  # fmt: skip


def rows_left(fleet: Fleet) -> dict[str, Any]:
    """What the tables hold."""
    with fleet.engine.connect() as connection:
        held: dict[str, Any] = {
            table: {*connection.scalars(sa.text(f"SELECT {column} FROM {table}"))} for table, column in HELD.items()
        }
        month = connection.execute(sa.text("SELECT sum(spent) FROM budget WHERE length(period) = 7")).scalar()
        reserved = connection.scalar(sa.text("SELECT sum(reserved) FROM budget"))
    return held | {"spent": int(month or 0), "reserved": int(reserved or 0)}


HELD = {"entry": "id", "job": "task", "submit": "task", "reservation": "task", "slot": "task"}
"""Tables, and what in them is the task's id."""


def of_blows(fleet: Fleet, tasks: Sequence[dict[str, Any]]) -> list[Figure]:
    """What could not be told apart, and how soon others went on."""
    jobs = fleet.provider.by_prompt()
    unknown = [each["request"]["prompt"] for each in tasks if each["error"] and each["error"]["code"] in UNKNOWN]
    cut = [prompt for prompt in unknown if prompt in jobs and jobs[prompt].answered is None]
    fresh = [prompt for prompt in unknown if prompt in jobs and unwritten(jobs[prompt], fleet.blows)]
    unsent = [prompt for prompt in unknown if prompt not in jobs]
    strange = {*unknown} - {*cut} - {*fresh} - {*unsent}
    sure = [prompt for prompt in unknown if kind_of(prompt) != "waited"]
    clips = [prompt for prompt in unknown if kind_of(prompt) == "clip"]
    kills = [each for each in fleet.blows if each.how != "database"]
    bound = GATE * len(kills)
    wire = sum(each.answered is None for each in jobs.values())
    found = [prompt for prompt, job in jobs.items() if job.answered is None and prompt not in unknown]
    taken = sum(number for number, _ in fleet.taken_over_in)
    slowest = max((seconds for _, seconds in fleet.taken_over_in), default=0.0)
    return [
        *of_outages(fleet),
        Figure("blows", told(Counter(each.how for each in fleet.blows))),
        Figure("submits whose answer was cut off", wire),
        Figure("… found again by our own name", len(found)),
        Figure("ends that nobody knows", len(unknown)),
        Figure("… of those that nobody waited for", len(sure), f"<= {bound}", len(sure) <= bound),
        Figure("… cut off on the wire", len(cut)),
        Figure("… answered, not yet written down", len(fresh)),
        Figure("… never sent", len(unsent)),
        Figure("… for no reason", sorted(strange) or 0, "= 0", not strange),
        Figure("… that could be looked for", clips or 0, "= 0", not clips),
        Figure("names sent again", fleet.provider.twice or 0, "= 0", not fleet.provider.twice),
        Figure("tasks whose process was gone", taken),
        Figure("seconds until all had another", f"{slowest:.1f}", f"<= {TAKEN_OVER:g}", slowest <= TAKEN_OVER),
    ]  # fmt: skip


def of_outages(fleet: Fleet) -> list[Figure]:
    """Whether what was made was asked for meanwhile, and how soon tasks were taken again."""
    lines = []
    for blow in fleet.blows:
        if blow.until is not None:
            asked = [at for job in fleet.provider.paid.values() for at, _ in job.polls if blow.at + 1 < at < blow.until]
            taken = min((at for at in fleet.moments if at > blow.until), default=None)
            again = "-" if taken is None else f"{taken - blow.until:.1f}"
            soon = taken is None or taken - blow.until < BACK_WITHIN
            lines += [
                Figure("polls without a database", len(asked), "> 0", bool(asked)),
                Figure("seconds until tasks are taken again", again, f"< {BACK_WITHIN:g}", soon),
            ]
    return lines


def unwritten(job: Paid, blows: Sequence[Blow]) -> bool:
    """Whether its answer came so shortly before its server's end that it may not have been written down."""
    answered = job.answered
    return answered is not None and any(
        each.by == job.by and -0.05 <= each.at - answered <= FRESH for each in blows
    )  # fmt: skip


def table(title: str, lines: Sequence[Figure]) -> str:
    """As it is printed."""
    width = max(len(each.name) for each in lines)
    rows = []
    for name, found, wanted, holds in lines:
        judged = ("ok" if holds else "WRONG") if wanted else ""
        rows.append(f"  {name:<{width}}  {str(found)[:300]:<28} {wanted:<16} {judged}".rstrip())
    return "\n".join([title, *rows])
