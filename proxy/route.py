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
from proxy.engine import Engine
from proxy.errors import uncertain
from proxy.metrics import Metrics
from proxy.plan import Plan
from proxy.prices import dollars, micros, wasted
from proxy.run import Emit, total
from proxy.trail import UNWATCHED, Left, LetGo, Trail, pixels
from proxy.video.prices import video_wasted
from translators.base import Done, Fault, FaultKind, Job, Output, Secret, Size, Usage
from translators.video import VideoJob

TRIPS = 5  # faults in a row that open a target's breaker
OPEN_SECONDS = 30.0  # it stays open; then one job may try
BREAKER_LOOK_SECONDS = 1.0  # between two looks whether it is closed again
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


async def make(
    route: Route, plans: Sequence[Plan], engine: Engine, health: Health, emit: Emit, settle: Settle,
    trail: Trail | None = None,
) -> Made:  # fmt: skip
    """Run the first plan that works. The fault of the last one tried is raised where none does: its `cost_usd` is what
    all of them cost.

    `settle` makes a job's pictures fit its target; it runs only for targets that are really tried. `trail` keeps what
    was submitted; where nobody waits, providers that fail at present are given time to be well again.
    """
    patient = trail if trail is not None and trail.durable else None
    until = time.monotonic() + plans[0].target.upstream.job_seconds
    while True:
        try:
            return await first_of(route, plans, engine, health, emit, settle, trail)
        except Fault as fault:
            if fault.code != "breaker_open" or patient is None or time.monotonic() > until:
                raise
        await patient.pause(BREAKER_LOOK_SECONDS)
        patient.check()


async def first_of(
    route: Route, plans: Sequence[Plan], engine: Engine, health: Health, emit: Emit, settle: Settle, trail: Trail | None
) -> Made:
    """`make`, of those that do not fail at present."""
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
            ends = asyncio.get_running_loop().time() + target.upstream.job_seconds
            made = await attempt(Attempt(plan, engine, health, emit, settle, wanted(route, plan), ends, trail))
            return replace(made, wasted_usd=added(spent, made.wasted_usd)) if spent else made
        except Fault as error:
            fault = error
            spent = added(spent, error.cost_usd)
            fault.cost_usd = spent or None
            if error.kind not in route.fallback_on or uncertain(error):  # another target would be paid too
                raise
    raise fault or Fault("missing", f"The model '{route.name}' has no target.", code="invalid_value", param="model")


def wanted(route: Route, plan: Plan) -> bool:
    """Whether what is made is fetched: always, but where the configuration hands a provider's links to pictures on."""
    kept = plan.jobs[0].op == "video" or plan.finish.respond != "url" or plan.finish.format is not None
    return kept or route.hosting != "passthrough"


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
    trail: Trail | None = None
    whole: bool = True  # the jobs have what is to be sent; else it can only be asked for what was sent

    def sent(self, job: Job) -> tuple[Size, ...]:
        """The sizes of the pictures that went with each of them."""
        left = self.trail.left if self.trail else {}
        return next((each.saved.sent for each in left.values()), pixels(job))


async def attempt(at: Attempt) -> Made:
    """All jobs of one plan, some at a time. What was made is kept, whatever became of the rest."""
    plan, metrics, health = at.plan, at.engine.metrics, at.health
    target = plan.target
    began = time.monotonic()
    outcome: Literal["ok", "partial"] | FaultKind = "cancelled"
    try:
        made = await run_all(at)
        outcome = "partial" if made.faults else "ok"
        metrics.observe(
            "job_seconds", plan.jobs[0].op, target.upstream.name, target.model, value=time.monotonic() - began
        )
    except Fault as fault:
        outcome = fault.kind
        health.failed(target, "cancelled" if fault.code in OURS else fault.kind)
        raise
    else:
        health.well(target)
        return made
    finally:
        if outcome == "cancelled":
            health.failed(target, "cancelled")  # a try of the breaker's that nobody ended must not hold the next one
        metrics.count("jobs_total", plan.jobs[0].op, target.upstream.name, target.model, outcome)


OURS = frozenset({"queue_full", "submit_uncertain", "not_begun"})
"""Codes of faults that say nothing of the target: it was not asked, or by a process that is gone."""


async def run_all(at: Attempt) -> Made:
    """The plan's jobs, at most `FAN_OUT` at a time. Their pictures are the same: made to fit once."""
    plan = at.plan
    first = await at.settle(plan.jobs[0], plan.target) if at.whole else plan.jobs[0]
    if len(plan.jobs) == 1:
        return gathered(plan, [await one(first, 0, at)], at.sent(first))
    places = asyncio.Semaphore(FAN_OUT)

    async def placed(number: int, job: Job) -> Drawn | Fault | LetGo:
        async with places:
            try:
                return await one(replace(job, images=first.images, mask=first.mask, markup=first.markup), number, at)
            except (Fault, LetGo) as fault:
                return fault

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(placed(number, job)) for number, job in enumerate(plan.jobs)]
    results = [task.result() for task in tasks]
    for each in results:
        if isinstance(each, LetGo):  # what the others brought is there for whoever goes on, too
            raise each
    return gathered(plan, [each for each in results if not isinstance(each, LetGo)], at.sent(first))


async def one(job: Job, number: int, at: Attempt) -> Drawn:
    """One job of the plan: with another credential where one is turned away, and once more where it came back empty.

    The `cost_usd` of the fault that is raised is that of all tries.
    """
    target, metrics = at.plan.target, at.engine.metrics
    fault: Fault | None = None
    spent = 0.0
    left = at.trail.left.get(number) if at.trail else None
    if left is None and not at.whole:
        raise Fault("upstream", "The server was stopped before this one was begun.", code="not_begun")
    every = at.health.credentials(target.upstream) if left is None else owner(target.upstream, left)
    if left is None and isinstance(job, VideoJob):
        every, job = acquainted(every, job)
    for credential in every:
        for again in (left is None, False):
            try:
                watch = at.trail.watch(at.plan, number, credential.name, whole=at.whole) if at.trail else UNWATCHED
                done = await at.engine.run(job, target, credential, at.emit, at.download, at.ends, watch)
                done = signed(done, credential)
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


def owner(upstream: Upstream, left: Left) -> Sequence[Credential]:
    """The credential with which it was submitted. Raises `Fault("auth")` where it is no more."""
    every = upstream.credentials or (Credential(upstream.name, Secret("")),)
    if found := [each for each in every if each.name == left.credential]:
        return found
    text = f"{upstream.name} has no credential '{left.credential}' any more: the task was submitted with that."
    fault = Fault("auth", text, code="no_credential")
    fault.passing = True  # the task is there all the same
    raise fault


MAKER = "credential"
"""In the origin of a video: the name of the credential that made it."""


def signed(done: Done, credential: Credential) -> Done:
    """`done`, whose videos know whose they are: another account may not work on them."""
    if all("origin" not in output.extra for output in done.outputs):
        return done
    outputs = [
        replace(output, extra={**output.extra, "origin": {**output.extra["origin"], MAKER: credential.name}})
        if "origin" in output.extra
        else output
        for output in done.outputs
    ]
    return replace(done, outputs=tuple(outputs))


def acquainted(every: Sequence[Credential], job: VideoJob) -> tuple[Sequence[Credential], VideoJob]:
    """The credential that made the video that is to be changed; once it is gone, the file will do where there is one.

    Raises `Fault("invalid")` where there is neither.
    """
    name = job.origin.get(MAKER)
    found = [each for each in every if each.name == name]
    if name is None or found:
        return found or every, job
    if job.clip is not None:
        return every, replace(job, origin={})
    text = f"The video was made with the credential '{name}', which is not configured any more."
    raise Fault("invalid", text, code="invalid_value", param="video")


def charged(fault: Fault, job: Job, target: Target, metrics: Metrics) -> float:
    """What this one fault cost, counted: US dollars in whole millionths, so that all sums of it agree."""
    rules = target.caps.prices
    spent = video_wasted(rules, job, fault) if isinstance(job, VideoJob) else wasted(rules, job, fault)
    usd = dollars(micros(spent)) or 0.0
    if usd:
        metrics.count("wasted_usd_total", target.upstream.name, fault.kind, by=usd)
    return usd


def added(*amounts: float | None) -> float:
    """The sum of whole millionths, which is one."""
    return dollars(sum(micros(usd) or 0 for usd in amounts))


def gathered(plan: Plan, results: Iterable[Drawn | Fault], sent: tuple[Size, ...]) -> Made:
    """The results as one; `sent` are the pictures of each call. Raises the first fault where nothing was made."""
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
        images_in=sent,
        wasted_usd=spent,
    )
