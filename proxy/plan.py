"""What to ask of which model: `Ask` x targets -> settled `Job`s, and notes on what could not be had. Pure.

What becomes of each field stands in `decide`; here the decisions are gathered, and `n` is split into calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Generic, Literal

import msgspec
from msgspec.structs import replace

from proxy.ask import Ask, Inputs
from proxy.catalog import Target
from proxy.decide import (
    DECISIONS,
    NOTHING,
    Note,
    check_operation,
    converted,
    decide_options,
    decide_pictures,
)
from proxy.providers import AnyCaps, C_co
from translators import NAMES
from translators.base import Caps, Fault, Job

__all__ = ["Finish", "Note", "Plan", "able", "named", "plan", "plans"]


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to do to a made picture."""

    format: str | None = None  # png, jpeg, webp: transcode where the bytes are something else; None: as it comes
    compression: int | None = None  # 0-100, for a transcode to jpeg or webp
    respond: Literal["b64_json", "url"] = "b64_json"


class Plan(msgspec.Struct, Generic[C_co], frozen=True, kw_only=True):
    """The work for one target: `jobs` together make the `n` that was asked for."""

    target: Target[C_co]
    jobs: tuple[Job, ...]
    finish: Finish
    notes: tuple[Note, ...] = ()


PROVIDERS: frozenset[str] = frozenset(NAMES)
SEED_ENDS = (2**31, 2**32, 2**63)
"""Where providers' seeds end: counting on from one that is legal must not cross any of them."""


def plans(ask: Ask, inputs: Inputs, targets: Sequence[Target], strict: bool = False) -> tuple[Plan, ...]:
    """A plan for each target that can do it, in their order. Raises the first target's fault where none can."""
    providers = named(targets)
    return able(targets, lambda target: plan(ask, inputs, target, strict=strict, providers=providers))


def able(targets: Iterable[Target[C_co]], planned: Callable[[Target[C_co]], Plan[C_co]]) -> tuple[Plan[C_co], ...]:
    """What is planned for each target that can do it, in their order. Raises the first one's fault where none can."""
    made: list[Plan[C_co]] = []
    first: Fault | None = None
    for target in targets:
        try:
            made.append(planned(target))
        except Fault as fault:
            first = first or fault
    if first and not made:
        raise first
    return tuple(made)


def named(targets: Iterable[Target[AnyCaps]]) -> frozenset[str]:
    """The providers by which `provider_options` may be keyed: all that there are, and those of the configuration."""
    return PROVIDERS.union(target.upstream.name for target in targets)


def plan(
    ask: Ask, inputs: Inputs, target: Target, *, strict: bool = False, providers: Collection[str] = PROVIDERS
) -> Plan:
    """The work for one target. Raises `Fault("invalid")` where it cannot do it, or, if `strict`, not all of it.

    `provider_options` are either flat, `{"seed_mode": 1}`, or keyed by provider, `{"bfl": {"seed_mode": 1}}`, or
    both: then the keyed ones win. What is keyed by another of `providers` is not for this target.
    """
    caps = target.caps
    ask = meant(ask)
    check_operation(ask, caps)
    decisions = [decide(ask, caps) for _, decide in DECISIONS]
    decisions.append(decide_pictures(ask, inputs, caps))
    if ask.provider_options:
        decisions.append(decide_options(ask, target, providers))
    members: dict[str, Any] = {}
    finish: dict[str, Any] = {}
    notes: tuple[Note, ...] = ()
    for decision in decisions:
        if decision is not NOTHING:
            members.update(decision.job)
            finish.update(decision.finish)
            notes += decision.notes
    job = Job(op=ask.op, model=target.model, site=target.upstream.site, **members)
    jobs, seeds = split(job, ask.n, caps)
    notes += seeds
    if strict:
        refuse_noted(notes)
    return Plan(target=target, jobs=jobs, finish=Finish(**finish), notes=notes)


def meant(ask: Ask) -> Ask:
    """`ask` with the operation that it really is: references on a generation are an edit without a mask."""
    return replace(ask, op="edit") if ask.op == "generate" and ask.images else ask


def check_possible(ask: Ask, targets: Sequence[Target]) -> None:
    """Refuse what no target does, before the client's pictures are fetched for it."""
    refused: list[Fault] = []
    for target in targets:
        try:
            check_operation(meant(ask), target.caps)
        except Fault as fault:
            refused.append(fault)
        else:
            return
    raise refused[0]


def refuse_noted(notes: tuple[Note, ...]) -> None:
    """Raise the first note that is more than a conversion."""
    for note in notes:
        if note.action == "noted":
            text = f"Unsupported parameter: '{note.param}' is not supported with this model: {note.text}."
            raise Fault("invalid", text, code="unsupported_parameter", param=note.param)


def split(job: Job, n: int, caps: Caps) -> tuple[tuple[Job, ...], tuple[Note, ...]]:
    """`n` pictures as calls of at most `max_n`. Each gets a seed of its own: with the same they would be the same."""
    most = max(caps.max_n, 1)
    if n <= most:
        return (job if n == 1 else replace(job, n=n),), ()
    counts = [most] * (n // most) + ([n % most] if n % most else [])
    if job.seed is None or job.seed < 0:  # below zero it stands for "at random" wherever it is legal
        return tuple(replace(job, n=count) for count in counts), ()
    step = -1 if any(job.seed < edge <= job.seed + n for edge in SEED_ENDS) else 1
    seeds = [job.seed + step * sum(counts[:index]) for index in range(len(counts))]
    jobs = tuple(replace(job, n=count, seed=seed) for count, seed in zip(counts, seeds, strict=True))
    return jobs, (converted("seed", job.seed, ", ".join(map(str, seeds))),)
