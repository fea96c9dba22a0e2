"""What the keys of a tier may do: calls and pictures a minute, jobs at once, and how many pictures of which size.

Each key has the limits of its tier for itself. They are kept in the memory of the process; where several processes
share them, in Redis or in the database. The places of a provider are kept beside them, under a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy import invalid, sizes
from proxy.config import Config, Tier
from proxy.limits.backend import Backend, Wanted
from proxy.limits.memory import Memory
from proxy.limits.rates import SECOND, Admission, Rules, Standing, cost, duration, rules
from proxy.state.database import Database
from proxy.state.queues import PROVIDER
from translators.base import Fault

__all__ = ["Admission", "Limits", "Standing", "build", "check_n", "check_request", "check_size"]

FREE = Admission(Rules((), None), 0, True, 0, (), 0)
JOBS_RETRY_SECONDS = 1.0  # nobody knows when a job ends


class Limits:
    """The limits of one server."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def degraded(self) -> bool:
        """Whether this process holds but its share of each limit, because what it shares them through is away."""
        return self._backend.degraded

    @property
    def shared(self) -> bool:
        """Whether other processes take of the same limits."""
        return not isinstance(self._backend, Memory)

    async def start(self) -> None:
        """Connect to what is shared; where it is away, the log says so."""
        await self._backend.start()

    async def aclose(self) -> None:
        """Give back what is held, and disconnect."""
        await self._backend.aclose()

    async def admit(self, caller_id: str, tier: Tier, tier_name: str | None, n: int, task: str) -> Admission:
        """Count a call for `n` pictures; `task` is its job, until `release`.

        Raises `Fault("rate")` where a limit is reached, which has `headers` too: nothing is taken then. Raises
        `Fault("invalid")` where the call could never pass.
        """
        requests, images, jobs = tier.requests_per_minute, tier.images_per_minute, tier.concurrent_jobs
        if requests is None and images is None and jobs is None:
            return FREE
        if images is not None and n > images:
            check_n(tier, n)
        admission = await self._backend.take(Wanted(caller_id, rules(requests, images, jobs), n, task))
        if not admission.admitted:
            raise refusal(admission, tier_name)
        return admission

    async def release(self, caller_id: str, task: str) -> None:
        """The job of a call has ended. It may be said again, and of a call that held nothing."""
        await self._backend.release((caller_id, task))

    async def hold(self, caller_id: str, task: str) -> None:
        """Count a job that was admitted by an earlier process; until `release`."""
        await self._backend.seize((caller_id, task))

    async def place(self, provider: str, rules: Rules, task: str) -> Admission:
        """Ask for a place at a provider, for `task`, until `vacate`."""
        return await self._backend.take(Wanted(PROVIDER + provider, rules, 1, task))

    async def look(self, provider: str, rules: Rules) -> Admission:
        """How many places are taken; nothing changes."""
        return await self._backend.take(Wanted(PROVIDER + provider, rules, 0, ""))

    async def seize(self, provider: str, task: str) -> None:
        """Take a place whatever the limit says: the provider works on it already."""
        await self._backend.seize((PROVIDER + provider, task))

    async def vacate(self, provider: str, task: str) -> None:
        """Give a place back."""
        await self._backend.release((PROVIDER + provider, task))

    def leave(self, provider: str, task: str) -> None:
        """Leave a place to whoever goes on with its job; it counts until its lease ends, or is seized."""
        self._backend.leave((PROVIDER + provider, task))

    async def standings(self, caller_id: str, tier: Tier) -> tuple[Standing, ...]:
        """What is left of each rate; nothing is taken."""
        given = rules(tier.requests_per_minute, tier.images_per_minute, None)
        if not given.rates:
            return ()
        return (await self._backend.take(Wanted(caller_id, given, 0, ""))).standings


def build(
    config: Config,
    database: Database,
    workers_alive: Callable[[], int],
    worker: str,
    told: Callable[[bool], None] = lambda _: None,
) -> Limits:
    """The limits of the process whose id is `worker`.

    `workers_alive` tells how many processes share them, of all machines: what each is left with alone depends on it.
    `told` hears of `degraded` whenever it changes.
    """
    from proxy.limits.shared import Shared

    if config.redis is not None:
        from proxy.limits.redis import Redis

        return Limits(Shared(Redis(config.redis.key), workers_alive, told))
    if config.server.workers > 1 or database.kind == "postgresql":
        from proxy.limits.records import Records

        return Limits(Shared(Records(database, worker), workers_alive, told))
    return Limits(Memory())


def refusal(admission: Admission, tier_name: str | None) -> Fault:
    """The fault of a call that came too early, in OpenAI's words: of the limit that takes longest to give way."""
    whose = "this key" if tier_name is None else f"this key (tier '{tier_name}')"
    rate, standing = max(
        zip(admission.rules.rates, admission.standings, strict=True), key=lambda pair: pair[1].wait,
        default=(None, None),
    )  # fmt: skip
    if rate and standing and standing.wait:
        dimension, seconds = str(rate.dimension), standing.wait / SECOND
        text = (
            f"on {dimension} per min: Limit {standing.limit}, Used {standing.limit - standing.remaining}, "
            f"Requested {cost(rate, admission.n)}. Please try again in {duration(standing.wait)}."
        )
    else:
        dimension, seconds = "concurrent-jobs", JOBS_RETRY_SECONDS
        text = (
            f"on concurrent jobs: Limit {admission.rules.jobs}, Used {admission.running}, Requested 1. "
            "Please try again when one of them has ended."
        )
    fault = Fault(
        "rate", f"Rate limit reached for {whose} {text}", code="rate_limit_exceeded", retry_after=seconds
    )  # fmt: skip
    fault.type, fault.headers = dimension, admission.headers
    return fault


def check_request(tier: Tier, n: int, size: str | None) -> None:
    """Raises `Fault("invalid")` where the tier never allows so many pictures, or one so large, as the client said."""
    check_n(tier, n)
    if size is not None and (asked := sizes.parse_size(size)) is not None:
        check_size(tier, *asked)


def check_n(tier: Tier, n: int) -> None:
    """Raises `Fault("invalid")` where no call of this tier may ask for so many."""
    most = min((bound for bound in (tier.max_n, tier.images_per_minute) if bound is not None), default=n)
    if n > most:
        raise invalid.out_of_range("n", "int", f"<= {most}", n)


def check_size(tier: Tier, width: int, height: int) -> None:
    """Raises `Fault("invalid")` where the tier allows no picture of so many pixels; 0 by 0 is not known, and passes."""
    if tier.max_size is not None and width * height > tier.max_size[0] * tier.max_size[1]:
        raise invalid.invalid_value(
            "size",
            f"Invalid size '{width}x{height}'. Your tier allows no picture of more pixels than "
            f"'{sizes.shown(tier.max_size)}' has.",
        )
