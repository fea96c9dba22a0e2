"""Runs one job on one target: send, poll, deadline, download. Knows no provider; the calls themselves are `run`'s."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar

import httpx
from msgspec.structs import replace

from proxy import fetch, wire
from proxy.catalog import Credential, Target, Upstream
from proxy.credentials import Credentials
from proxy.http import Pools, Refused
from proxy.limits import Limits
from proxy.limits.memory import Memory
from proxy.metrics import Metrics, Phase
from proxy.places import Places, Queue
from proxy.run import TRIES, Emit, Run, backoff
from proxy.trail import UNWATCHED, LetGo, Watch, bare, uncertain
from translators.base import (
    Done,
    Fault,
    Finder,
    Job,
    Op,
    Output,
    Step,
    Wait,
)

NO_QUEUE = nullcontext()
SPREAD = 0.1  # of a pause between two polls, added at most: what began at once is not asked for at once for ever
PICTURE_SECONDS = 120.0  # of one download
VIDEO_SECONDS = 900.0

timings: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)
"""Where the call that this code runs for notes its phases, in seconds."""

Aside = Callable[[Callable[[Job], Step], Job], Awaitable[Step]]


class Engine:
    """One per configuration. `aside` computes off the event loop; a download brings at most `output_bytes`.

    `places` are those of the providers that take only so many jobs: of all configurations, so that a reload gives away
    none twice.
    """

    def __init__(
        self,
        pools: Pools,
        credentials: Credentials,
        aside: Aside,
        metrics: Metrics,
        output_bytes: int,
        places: Places | None = None,
    ) -> None:
        self.pools = pools
        self.credentials = credentials
        self.aside = aside
        self.metrics = metrics
        self.output_bytes = output_bytes
        self.places = Places(Limits(Memory()), metrics) if places is None else places

    async def run(
        self,
        job: Job,
        target: Target,
        credential: Credential,
        emit: Emit,
        download: bool = True,
        ends: float | None = None,
        watch: Watch = UNWATCHED,
    ) -> Done:
        """Drive `job` to its end, with one credential from submit to download. `watch` hears of what is submitted, and
        may know what an earlier process has submitted of it.

        Raises the `Fault` that ended it; `timeout` where it was not done by `ends` (of the loop's clock; the provider's
        `job_seconds` from now where none is given), `overloaded` where no place came free by then. What is `unhurried`
        has its `job_seconds` from when it has a place.
        """
        upstream, clock = target.upstream, asyncio.get_running_loop().time
        queue = self.places.at(upstream.name)
        if ends is None:
            ends = clock() + upstream.job_seconds
        try:
            async with self._place(upstream, queue, ends, watch) if queue else NO_QUEUE:
                if watch.unhurried:
                    ends = clock() + upstream.job_seconds
                watch.begins()
                self.metrics.count("jobs_running", upstream.name)
                try:
                    async with asyncio.timeout_at(ends):
                        done = await self._drive(Run(self, job, upstream, credential), emit, watch)
                finally:
                    self.metrics.count("jobs_running", upstream.name, by=-1)
            if not download or all(output.url is None for output in done.outputs):
                return done
            async with asyncio.timeout_at(ends):
                return await self._downloaded(done, upstream, job.op)
        except TimeoutError as error:
            raise Fault(
                "timeout",
                f"{target.id} did not finish within {upstream.job_seconds:g} seconds.",
                code="deadline_exceeded",
            ) from error

    @asynccontextmanager
    async def _place(self, upstream: Upstream, queue: Queue, ends: float, watch: Watch) -> AsyncIterator[None]:
        began = time.monotonic()
        try:
            async with asyncio.timeout_at(None if watch.unhurried else ends):
                place = await queue.take(watch)
        except TimeoutError as error:
            raise Fault(
                "overloaded", f"{upstream.name} had no place for this job in time.", code="queue_full"
            ) from error
        self.phase(upstream, "queue", began)
        try:
            yield
        except (LetGo, asyncio.CancelledError):
            if watch.askable:  # another process goes on asking for it
                place.leave()
            raise
        finally:
            place.vacate()

    async def _drive(self, run: Run, emit: Emit, watch: Watch) -> Done:
        began = time.monotonic()
        step = await self._left(run, emit, watch)
        if step is None:
            step = await self._submitted(run, emit, watch)
            self.phase(run.upstream, "submit", began)
        if isinstance(step, Wait):
            run.job = bare(run.job)  # what was sent is held no longer
            began = time.monotonic()
            step = await self._waited(run, step, emit, watch)
            self.phase(run.upstream, "wait", began)
        for partial in step.partials:
            await emit(partial)
        if not step.outputs:
            fault = step.faults[0] if step.faults else Fault("empty", "The provider made no picture.", code="no_image")
            fault.usage = fault.usage or step.usage
            raise fault
        return step

    async def _left(self, run: Run, emit: Emit, watch: Watch) -> Wait | Done | None:
        """Where an earlier process stopped; `None` where it has submitted nothing. Raises where nobody can tell."""
        left = watch.left
        if left is None:
            return None
        whole, run.job = run.job, left.saved.job
        if left.wait is not None:
            return replace(left.wait, seconds=left.wait.seconds * random.random())  # noqa: S311  # not all at once
        if left.saved.look is None:  # it cannot be asked: that says nothing
            raise uncertain()
        if (found := await run.looked(left.saved.look, emit)) is None:
            if not watch.whole:
                raise uncertain()
            run.job = whole
        return found

    async def _submitted(self, run: Run, emit: Emit, watch: Watch) -> Wait | Done:
        """What the provider answers to the job itself."""
        by, look = run.by, None
        if isinstance(by, Finder):
            run.job = replace(run.job, mark=watch.mark)
            look = by.look(run.job)
        async with watch.gate():
            await watch.submitting(run.job, look)
            step = by.start(run.job) if run.upstream.base else await self.aside(by.start, run.job)
            try:
                async with watch.patience():
                    step = await run.to_wait(step, emit)
            except Fault as fault:
                if fault.code != "ambiguous" or look is None or (found := await run.looked(look, emit)) is None:
                    raise
                step = found
            if isinstance(step, Wait):
                watch.waiting(run.job, step)
        return step

    async def _waited(self, run: Run, wait: Wait, emit: Emit, watch: Watch) -> Done:
        """What becomes of a job that the provider has."""
        step: Wait | Done = wait
        while isinstance(step, Wait):
            if not watch.stopped:
                seconds = min(step.seconds, run.upstream.poll_seconds)
                await watch.pause(seconds * (1 + SPREAD * random.random()))  # noqa: S311  # no secret
            if watch.stopped:
                raise await run.withdrawn(step.call)
            step = await run.to_wait(await run.poll(step.call), emit)
            if isinstance(step, Wait):
                watch.waiting(run.job, step)
        return step

    async def _downloaded(self, done: Done, upstream: Upstream, op: Op) -> Done:
        """`done` with its addresses replaced by what is there. One that cannot be had is a fault beside the others."""
        began = time.monotonic()
        got = await asyncio.gather(*(self.download(output, upstream, op) for output in done.outputs))
        self.phase(upstream, "download", began)
        outputs = tuple(each for each in got if isinstance(each, Output))
        faults = tuple(each for each in got if isinstance(each, Fault))
        if not outputs:
            faults[0].usage, faults[0].lost = done.usage, len(faults)
            raise faults[0]
        if done.usage.cost_usd is None:  # else they are in the price of the others
            for fault in faults:
                fault.lost = 1
        return replace(done, outputs=outputs, faults=done.faults + faults)

    async def download(self, output: Output, upstream: Upstream, op: Op = "generate") -> Output | Fault:
        """What is at the output's address; a few tries, since it is paid for. A video waits on the local disk."""
        if output.url is None:
            return output
        if output.url.startswith("data:"):
            try:
                return replace(output, url=None, blob=fetch.data_url(output.url))
            except ValueError:
                return Fault("upstream", "The provider's picture cannot be read.", code="unreadable")
        own = self.pools.of(upstream) if upstream.trusted else None
        host = fetch.netloc(httpx.URL(upstream.base)) if own else ""
        fault = Fault("upstream", "The made picture could not be downloaded.", code="download_failed")
        for tried in range(TRIES):
            if tried:
                self.metrics.count("retries_total", upstream.name, "fetch", fault.kind)
                await asyncio.sleep(backoff(tried))
            began = time.monotonic()
            try:
                video = op == "video"
                most = wire.VIDEO_BYTES if video else self.output_bytes
                seconds = VIDEO_SECONDS if video else PICTURE_SECONDS
                blob = await fetch.get(
                    self.pools, output.url, most=most, seconds=seconds, own=own, own_host=host, spooled=video
                )
            except Refused as error:
                self.metrics.count("fetch_refused_total", "provider", "address")
                return Fault(
                    "upstream", f"The provider named an address that is not fetched: {error}", code="foreign_host"
                )
            except (httpx.HTTPError, TimeoutError, Fault) as error:
                fault = Fault("upstream", f"The made picture could not be downloaded: {error}", code="download_failed")
                self.called(upstream, "fetch", "reset" if isinstance(error, httpx.HTTPError) else "4xx", began)
            else:
                self.called(upstream, "fetch", "2xx", began)
                return replace(output, url=None, blob=blob)
        return fault

    def phase(self, upstream: Upstream, phase: Phase, began: float) -> None:
        """Note how long a phase took."""
        took = time.monotonic() - began
        self.metrics.observe("phase_seconds", upstream.name, phase, value=took)
        if (noted := timings.get()) is not None:
            noted[phase] = round(noted.get(phase, 0.0) + took, 6)

    def called(self, upstream: Upstream, call: str, result: str, began: float) -> None:
        """Note one upstream call."""
        self.metrics.count("upstream_calls_total", upstream.name, call, result)
        self.metrics.observe("upstream_seconds", upstream.name, call, value=time.monotonic() - began)
