"""Which target next: order, weights, breaker, credentials, fallback."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from cachetools import LRUCache
from msgspec.structs import replace

from proxy.catalog import Credential, Route, Target, Upstream
from proxy.engine import Emit, Engine, total
from proxy.errors import uncertain
from proxy.metrics import Metrics
from proxy.plan import Plan
from proxy.prices import dollars, micros, wasted
from translators.base import Done, Fault, FaultKind, Job, Output, Secret, Size, Usage

TRIPS = 5  # faults in a row that open a target's breaker
OPEN_SECONDS = 30.0  # it stays open; then one job may try
COOL_SECONDS: dict[FaultKind, float] = {"auth": 300.0, "permission": 300.0, "quota": 300.0, "rate": 10.0}
"""How long a credential rests after a fault of these kinds; a rate limit's own `retry_after` goes before."""

TARGET_FAULTS: frozenset[FaultKind] = frozenset({"overloaded", "upstream", "timeout"})
"""What a breaker counts. A client's faults never open it."""

KNOWN = 1_000  # targets whose past is kept: some providers take any model's name
FAN_OUT = 4  # calls of one request at once

Settle = Callable[[Job, Target], Awaitable[Job]]
"""Makes a job's pictures fit its target."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a plan: the pictures, and what happened to those that are missing."""

    plan: Plan
    outputs: tuple[Output, ...]
    usage: Usage
    faults: tuple[Fault, ...] = ()
    quality: str | None = None
    background: str | None = None
    calls: int = 1  # upstream calls that made something
    images_in: tuple[Size, ...] = ()  # what each of them was sent
    wasted_usd: float = 0.0  # paid for what nobody got, by all tries; in whole millionths


class Drawn(msgspec.Struct, frozen=True):
    """What came of one job, and what its failed tries cost."""

    done: Done
    wasted_usd: float


@dataclass
class Circuit:
    """The recent past of one target."""

    failures: int = 0  # in a row
    until: float = 0.0  # monotonic time before which it is passed over
    trying: bool = False  # one job tests whether it is well again


@dataclass
class Health:
    """What this process has learnt of targets and credentials; nothing of it is written down."""

    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    circuits: MutableMapping[str, Circuit] = field(default_factory=lambda: LRUCache(KNOWN))
    resting: dict[str, float] = field(default_factory=dict)  # credential name -> monotonic time of its return
    turn: dict[str, int] = field(default_factory=dict)  # upstream name -> whose turn it is

    def admits(self, target: Target) -> bool:
        """Whether a job may go there now. After a pause, one job at a time tests it."""
        circuit = self.circuits.get(target.id)
        if circuit is None or circuit.failures < TRIPS:
            return True
        if self.clock() < circuit.until or circuit.trying:
            return False
        circuit.trying = True
        return True

    def well(self, target: Target) -> None:
        """It worked."""
        if self.circuits.pop(target.id, None):
            self.metrics.set("breaker_open", target.id, to=0)

    def failed(self, target: Target, kind: FaultKind) -> None:
        """It ended with a fault of that kind."""
        circuit = self.circuits.get(target.id)
        if kind not in TARGET_FAULTS:
            if circuit:
                circuit.trying = False  # nothing was learnt: the next job may test it
            return
        circuit = self.circuits.setdefault(target.id, Circuit())
        circuit.failures += 1
        circuit.trying = False
        if circuit.failures >= TRIPS:
            circuit.until = self.clock() + OPEN_SECONDS
            self.metrics.set("breaker_open", target.id, to=1)

    def credentials(self, upstream: Upstream) -> Sequence[Credential]:
        """The credentials to try, in turn; those that rest come last, the first to return first."""
        every = upstream.credentials or (Credential(upstream.name, Secret("")),)  # a server of one's own needs none
        if len(every) == 1:
            return every
        now = self.clock()
        start = self.turn[upstream.name] = (self.turn.get(upstream.name, -1) + 1) % len(every)
        turned = (*every[start:], *every[:start])
        rests = [max(self.resting.get(each.name, 0.0) - now, 0.0) for each in turned]
        return [turned[i] for i in sorted(range(len(turned)), key=rests.__getitem__)]

    def rest(self, credential: Credential, fault: Fault) -> None:
        """This credential was turned away."""
        seconds = COOL_SECONDS[fault.kind] if fault.retry_after is None else fault.retry_after
        self.resting[credential.name] = self.clock() + seconds


def ordered(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets in the order in which they are tried: as configured, or drawn by weight where weights differ."""
    if len({target.weight for target in targets}) <= 1:
        return tuple(targets)

    # A key of random() ** (1 / weight), sorted downwards, draws without replacement by weight (Efraimidis, Spirakis).
    def drawn(target: Target) -> float:
        return -(random.random() ** (1 / target.weight)) if target.weight else 0.0  # noqa: S311  # no secret

    return tuple(sorted(targets, key=drawn))


async def make(route: Route, plans: Sequence[Plan], engine: Engine, health: Health, emit: Emit, settle: Settle) -> Made:
    """Run the first plan that works. The fault of the last one tried is raised where none does: its `cost_usd` is what
    all of them cost.

    `settle` makes a job's pictures fit its target; it runs only for targets that are really tried.
    """
    fault: Fault | None = None
    spent = 0.0
    for plan in plans:
        target = plan.target
        if not health.admits(target):
            fault = fault or Fault(
                "overloaded", f"{target.id} fails at present and is not called.", code="breaker_open"
            )
            continue
        if fault is not None:
            engine.metrics.count("fallbacks_total", route.alias or "none", fault.kind)
        try:
            made = await attempt(plan, engine, health, emit, settle, download=wanted(route, plan))
            return replace(made, wasted_usd=added(spent, made.wasted_usd)) if spent else made
        except Fault as error:
            fault = error
            spent = added(spent, error.cost_usd)
            fault.cost_usd = spent or None
            if error.kind not in route.fallback_on or uncertain(error):  # another target would be paid too
                raise
    raise fault or Fault("missing", f"The model '{route.name}' has no target.", code="invalid_value", param="model")


def wanted(route: Route, plan: Plan) -> bool:
    """Whether made pictures are fetched: always, but where the configuration hands the provider's links on."""
    return not (route.hosting == "passthrough" and plan.finish.respond == "url" and plan.finish.format is None)


@dataclass(frozen=True)
class Attempt:
    """One plan that is tried, and what each of its jobs needs."""

    plan: Plan
    engine: Engine
    health: Health
    emit: Emit
    settle: Settle
    download: bool
    ends: float  # of the loop's clock: by then all of it is done, or given up


async def attempt(
    plan: Plan, engine: Engine, health: Health, emit: Emit, settle: Settle, *, download: bool = True
) -> Made:
    """All jobs of one plan, some at a time. What was made is kept, whatever became of the rest."""
    target, metrics = plan.target, engine.metrics
    began = time.monotonic()
    ends = asyncio.get_running_loop().time() + target.upstream.job_seconds
    metrics.count("jobs_running", target.upstream.name)
    outcome: Literal["ok", "partial"] | FaultKind = "cancelled"
    try:
        made = await run_all(Attempt(plan, engine, health, emit, settle, download, ends))
        outcome = "partial" if made.faults else "ok"
        metrics.observe(
            "job_seconds", plan.jobs[0].op, target.upstream.name, target.model, value=time.monotonic() - began
        )
    except Fault as fault:
        outcome = fault.kind
        health.failed(target, fault.kind)
        raise
    else:
        health.well(target)
        return made
    finally:
        if outcome == "cancelled":
            health.failed(target, "cancelled")  # a try of the breaker's that nobody ended must not hold the next one
        metrics.count("jobs_running", target.upstream.name, by=-1)
        metrics.count("jobs_total", plan.jobs[0].op, target.upstream.name, target.model, outcome)


async def run_all(at: Attempt) -> Made:
    """The plan's jobs, at most `FAN_OUT` at a time. Their pictures are the same: made to fit once."""
    plan = at.plan
    first = await at.settle(plan.jobs[0], plan.target)
    if len(plan.jobs) == 1:
        return gathered(plan, [await one(first, at)], first)
    places = asyncio.Semaphore(FAN_OUT)

    async def placed(job: Job) -> Drawn | Fault:
        async with places:
            try:
                return await one(replace(job, images=first.images, mask=first.mask, markup=first.markup), at)
            except Fault as fault:
                return fault

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(placed(job)) for job in plan.jobs]
    return gathered(plan, [task.result() for task in tasks], first)


async def one(job: Job, at: Attempt) -> Drawn:
    """One job: with another credential where one is turned away, and once more where it came back empty.

    The `cost_usd` of the fault that is raised is that of all tries.
    """
    target, metrics = at.plan.target, at.engine.metrics
    fault: Fault | None = None
    spent = 0.0
    for credential in at.health.credentials(target.upstream):
        for again in (True, False):
            try:
                done = await at.engine.run(job, target, credential, at.emit, at.download, at.ends)
                return Drawn(done, added(spent, *(charged(fault, job, target, metrics) for fault in done.faults)))
            except Fault as error:
                fault = error
                spent = added(spent, charged(error, job, target, metrics))
                error.cost_usd = spent or None
                if error.kind == "empty" and again:
                    metrics.count("retries_total", target.upstream.name, "submit", "empty")
                    continue
                if error.kind in COOL_SECONDS:
                    at.health.rest(credential, error)
                if error.kind not in COOL_SECONDS or uncertain(error):
                    raise
                break
    raise fault or Fault("auth", f"{target.upstream.name} has no credential.", code="no_credential")


def charged(fault: Fault, job: Job, target: Target, metrics: Metrics) -> float:
    """What this one fault cost, counted: US dollars in whole millionths, so that all sums of it agree."""
    usd = dollars(micros(wasted(target.caps.prices, job, fault))) or 0.0
    if usd:
        metrics.count("wasted_usd_total", target.upstream.name, fault.kind, by=usd)
    return usd


def added(*amounts: float | None) -> float:
    """The sum of whole millionths, which is one."""
    return dollars(sum(micros(usd) or 0 for usd in amounts))


def gathered(plan: Plan, results: Iterable[Drawn | Fault], job: Job) -> Made:
    """The results as one; `job` is one of those that were sent. Raises the first fault where nothing was made."""
    results = tuple(results)
    drawn = [each for each in results if isinstance(each, Drawn)]
    faults = [each for each in results if isinstance(each, Fault)]
    spent = added(*(each.wasted_usd for each in drawn), *(fault.cost_usd for fault in faults))
    if not drawn:
        faults[0].cost_usd = spent or None
        raise faults[0]
    done = [each.done for each in drawn]
    return Made(
        plan=plan,
        outputs=tuple(output for each in done for output in each.outputs),
        usage=total([each.usage for each in done]),
        faults=(*(fault for each in done for fault in each.faults), *faults),
        quality=done[0].quality,
        background=done[0].background,
        calls=len(done),
        images_in=tuple((media.width, media.height) for media in job.images),
        wasted_usd=spent,
    )
