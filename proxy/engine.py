"""Runs one job on one target: send, poll, retry, deadline, download. The only place that waits. Knows no provider.

What may be sent again: a call that cannot pay twice (`Call.repeatable`), a call that was never sent (no connection),
and one that the provider turned away before working on it (`rate`, `overloaded`). A submit whose answer was lost is
*ambiguous*: it may have been paid, so it is never repeated here, and the client's SDK is told not to either.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from secrets import token_hex

import httpx
import msgspec
from msgspec.structs import replace

from proxy import fetch, wire
from proxy.catalog import Credential, Target, Upstream
from proxy.credentials import Credentials
from proxy.http import Pools, Refused
from proxy.logs import warn
from proxy.metrics import Metrics, Phase
from proxy.trail import UNWATCHED, Watch, bare, cancelled, uncertain
from translators.base import (
    Call,
    Done,
    Fault,
    FaultKind,
    Finder,
    Job,
    Output,
    Partial,
    Reply,
    Secret,
    Stamp,
    Step,
    Stopper,
    Translator,
    Usage,
    Wait,
)

TRIES = 3  # of one call, the first included
POLL_FAULTS = 10  # polls that may fail in a row before a job is given up
POLL_DOUBTS = 3  # "no such task" or "no such key" so often is believed: replicas lag, tokens end
LOOKS = (1.0, 3.0, 6.0)  # seconds before each look for a task whose name did not come
PATIENCE = 5.0  # seconds; a provider that asks for a longer pause is passed on to the next target or the client
TURNED_AWAY: frozenset[FaultKind] = frozenset({"rate", "overloaded"})
NO_QUEUE = nullcontext()
PASSING = frozenset({408, 409, 425, 429})  # statuses of a poll that say nothing of the job
DOUBTED: frozenset[FaultKind] = frozenset({"missing", "auth"})
REFUSED: frozenset[FaultKind] = frozenset({"permission", "quota"})  # asking again changes nothing
UNREAD = frozenset({"unreadable", "truncated"})

timings: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)
"""Where the call that this code runs for notes its phases, in seconds."""

Emit = Callable[[Partial], Awaitable[None]]
Aside = Callable[[Callable[[Job], Step], Job], Awaitable[Step]]


class Engine:
    """One per configuration. `aside` computes off the event loop; a download brings at most `output_bytes`.

    `places` are those of the providers that take only so many calls at once: of all configurations, so that a reload
    gives away none twice.
    """

    def __init__(
        self,
        pools: Pools,
        credentials: Credentials,
        aside: Aside,
        metrics: Metrics,
        output_bytes: int,
        places: dict[tuple[str, int], asyncio.Semaphore] | None = None,
    ) -> None:
        self.pools = pools
        self.credentials = credentials
        self.aside = aside
        self.metrics = metrics
        self.output_bytes = output_bytes
        self._places = {} if places is None else places

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
        `job_seconds` from now where none is given), `overloaded` where no place came free by then.
        """
        upstream = target.upstream
        if ends is None:
            ends = asyncio.get_running_loop().time() + upstream.job_seconds
        try:
            async with self._place(upstream, ends) if upstream.concurrency else NO_QUEUE, asyncio.timeout_at(ends):
                done = await self._drive(Run(self, job, upstream, credential), emit, watch)
                return await self._downloaded(done, upstream) if download else done
        except TimeoutError as error:
            raise Fault(
                "timeout",
                f"{target.id} did not finish within {upstream.job_seconds:g} seconds.",
                code="deadline_exceeded",
            ) from error

    @asynccontextmanager
    async def _place(self, upstream: Upstream, ends: float) -> AsyncIterator[None]:
        number = upstream.concurrency
        places = self._places.setdefault((upstream.name, number), asyncio.Semaphore(number))
        self.metrics.count("jobs_queued", upstream.name)
        began = time.monotonic()
        try:
            async with asyncio.timeout_at(ends):
                await places.acquire()
        except TimeoutError as error:
            raise Fault(
                "overloaded", f"{upstream.name} had no place for this job in time.", code="queue_full"
            ) from error
        finally:
            self.metrics.count("jobs_queued", upstream.name, by=-1)
        self.phase(upstream, "queue", began)
        try:
            yield
        finally:
            places.release()

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
        if not isinstance(run.by, Finder) or run.by.look(run.job) is None:  # it cannot be asked: that says nothing
            raise uncertain()
        if (found := await run.looked(emit)) is None:
            if not watch.whole:
                raise uncertain()
            run.job = whole
        return found

    async def _submitted(self, run: Run, emit: Emit, watch: Watch) -> Wait | Done:
        """What the provider answers to the job itself."""
        by = run.by
        if isinstance(by, Finder):
            run.job = replace(run.job, mark=watch.mark)
        async with watch.gate():
            await watch.submitting(run.job)
            step = by.start(run.job) if run.upstream.base else await self.aside(by.start, run.job)
            try:
                step = await run.to_wait(step, emit)
            except Fault as fault:
                if fault.code != "ambiguous" or (found := await run.looked(emit)) is None:
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
                await watch.pause(step.seconds)
            if watch.stopped:
                raise await run.withdrawn(step.call)
            step = await run.to_wait(await run.poll(step.call), emit)
            if isinstance(step, Wait):
                watch.waiting(run.job, step)
        return step

    async def _downloaded(self, done: Done, upstream: Upstream) -> Done:
        """`done` with its addresses replaced by what is there. One that cannot be had is a fault beside the others."""
        if all(output.url is None for output in done.outputs):
            return done
        began = time.monotonic()
        got = await asyncio.gather(*(self.download(output, upstream) for output in done.outputs))
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

    async def download(self, output: Output, upstream: Upstream) -> Output | Fault:
        """The picture at the output's address; a few tries, since it is paid for."""
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
                blob = await fetch.get(
                    self.pools, output.url, most=self.output_bytes, seconds=120, own=own, own_host=host
                )  # fmt: skip
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


class Run:
    """One job on its way: its provider, its credential."""

    def __init__(self, engine: Engine, job: Job, upstream: Upstream, credential: Credential) -> None:
        self.engine = engine
        self.metrics = engine.metrics
        self.job = job
        self.upstream = upstream
        self.credential = credential
        self.secret: Secret | None = None  # what was sent last
        self.by: Translator = upstream.translator

    async def call(self, call: Call, emit: Emit) -> Reply | Done:
        """The answer to a call of the job's own; tried again only where that cannot pay twice."""
        for tried in range(1, TRIES + 1):
            try:
                return await self._exchange(call, "submit", emit)
            except httpx.ConnectError as error:  # nothing was sent
                fault = self._unreachable(error)
            except httpx.ConnectTimeout as error:
                fault = self._unreachable(error)
            except httpx.HTTPError as error:
                fault = lost(error)
                if not call.repeatable:
                    raise fault from error
            except Fault as error:
                fault = error
                if not (call.repeatable or fault.kind in TURNED_AWAY) or fault.final:
                    raise
            pause = fault.retry_after if fault.retry_after is not None else backoff(tried)
            if tried == TRIES or pause > PATIENCE or isinstance(fault.__cause__, Refused):
                raise fault
            self.metrics.count("retries_total", self.upstream.name, "submit", fault.kind)
            await asyncio.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    async def to_wait(self, step: Step, emit: Emit) -> Wait | Done:
        """Send what is to be sent, until there is something to wait for, or the result."""
        while isinstance(step, Call):
            answer = await self.call(step, emit)
            step = answer if isinstance(answer, Done) else self.by.step(self.job, answer)
        if not isinstance(step, Wait | Done):
            raise TypeError(f"{self.upstream.name}: {type(step).__name__} is not a step")
        return step

    async def looked(self, emit: Emit) -> Wait | Done | None:
        """The task that was submitted under the job's mark, whose answer was lost; `None` where there is none."""
        call = self.by.look(self.job) if isinstance(self.by, Finder) else None
        if call is None or not isinstance(self.by, Finder):
            return None
        for seconds in LOOKS:  # what was just taken may not be listed yet
            await asyncio.sleep(seconds)
            try:
                answer = await self._exchange(call, "look", silent)
                found = None if isinstance(answer, Done) else self.by.found(self.job, answer)
            except httpx.HTTPError as error:
                fault: Fault | None = lost(error)
            except Fault as error:
                fault = error
            else:
                fault = None
                if found is not None:
                    return await self.to_wait(found, emit)
        if fault is not None:
            raise fault
        return None

    async def withdrawn(self, waiting: Call) -> Fault:
        """How a job ends that nobody wants any more: stopped at the provider, where it can be."""
        fault = cancelled()
        call = self.by.cancel(self.job, waiting) if isinstance(self.by, Stopper) else None
        if call is not None:
            try:
                await self._exchange(call, "cancel", silent)
            except (httpx.HTTPError, Fault) as error:
                warn("a provider does not stop a task", provider=self.upstream.name, error=error)
            else:
                return fault
        fault.message += " The provider could not be stopped: it may make it, and charge for it, all the same."
        fault.passing = True
        return fault

    async def poll(self, call: Call) -> Step:
        """What a poll leads to. The job is paid: what only says that the poll failed is sat out, up to a bound."""
        doubts = 0
        for failed in range(1, POLL_FAULTS + 1):
            try:
                answer = await self._exchange(call, "poll", silent)
                return answer if isinstance(answer, Done) else self.by.step(self.job, answer)
            except httpx.HTTPError as error:
                fault = lost(error)
            except Fault as error:
                fault = error
                fault.passing = fault.passing or fault.code in UNREAD
                doubts += fault.kind in DOUBTED
                if doubts >= POLL_DOUBTS and fault.kind == "missing":
                    fault.passing = False
                if not fault.passing or fault.kind in REFUSED or doubts >= POLL_DOUBTS:
                    raise
            if failed == POLL_FAULTS:
                break
            self.metrics.count("retries_total", self.upstream.name, "poll", fault.kind)
            await asyncio.sleep(fault.retry_after if fault.retry_after is not None else backoff(failed))
        raise fault

    async def _exchange(self, call: Call, name: str, emit: Emit) -> Reply | Done:
        """Send `call` once. A stream is followed to its end."""
        began = time.monotonic()
        result = "reset"
        try:
            response = await self._send(call)
            try:
                result = family(response.status_code)
                if call.read == "events" and is_stream(response):
                    return await self._follow(call, response, emit)
                reply = await wire.read(call, response)
            finally:
                await response.aclose()
            try:
                self.by.check(reply)
            except Fault as fault:
                fault.passing = name == "poll" and (fault.passing or passing(fault, reply))
                if fault.kind == "auth":
                    self._turned_away(fault)
                elif fault.kind == "missing" and name == "submit":
                    fault.code, fault.param = "invalid_value", "model"  # as for a model that we do not have ourselves
                raise
            return reply
        except (httpx.ConnectError, httpx.ConnectTimeout):
            result = "reset"
            raise
        except httpx.TimeoutException:
            result = "timeout"
            raise
        except httpx.HTTPError:
            result = "reset" if call.repeatable else "ambiguous"
            raise
        finally:
            self.engine.called(self.upstream, name, result, began)

    def _turned_away(self, fault: Fault) -> None:
        """Our credential is not known there. In the provider's words a client would take it for its own, or read it."""
        if self.secret:
            self.engine.credentials.forget(self.credential, self.secret)
        warn("credential refused", credential=self.credential.name, code=fault.code, error=fault.message)
        fault.message = f"{self.upstream.name} does not accept the gateway's credential."
        fault.code, fault.param = "provider_auth_failed", None

    async def _send(self, call: Call) -> httpx.Response:
        timeout = {"connect": self.upstream.connect_seconds, "read": self.upstream.first_byte_seconds}
        pools = self.engine.pools
        if call.anonymous:
            pool = pools.of(self.upstream) if fetch.at_home(call.path, self.upstream) else pools.foreign
            return await pool.handle_async_request(wire.request(call, call, timeout))
        signed = replace(call, path=address(call.path, self.upstream))
        try:
            self.secret = secret = await self.engine.credentials.secret(self.credential)
        except Fault as fault:
            fault.passing = True  # a token server that fails says nothing of a job that is paid
            raise
        if secret.key or secret.extra:
            signed = self.by.sign(signed, secret, Stamp(datetime.now(UTC), token_hex(16)))
        return await pools.of(self.upstream).handle_async_request(wire.request(call, signed, timeout))

    async def _follow(self, call: Call, response: httpx.Response, emit: Emit) -> Done:
        """A stream's events, to the last. What was finished before it broke is kept."""
        done = Done(outputs=())
        begun = False
        try:
            async for reply in wire.events(call, response):
                self.by.check(reply)
                for event in self.by.event(self.job, reply):
                    if isinstance(event, Partial):
                        begun = True
                        await emit(event)
                    else:
                        done = grown(done, event)
        except (Fault, httpx.HTTPError) as error:
            if not done.outputs:
                if begun and isinstance(error, Fault) and error.kind != "policy":
                    error.final = error.passing = True  # a preview is paid for: the call was not turned away
                raise
            fault = error if isinstance(error, Fault) else lost(error)
            done = replace(done, faults=(*done.faults, fault))
        return done

    def _unreachable(self, error: httpx.HTTPError) -> Fault:
        fault = Fault("overloaded", f"{self.upstream.name} cannot be reached: {error}", code="unreachable")
        fault.__cause__ = error
        return fault


def grown(done: Done, event: Output | Usage | Done) -> Done:
    """`done` with what a stream's next event brought."""
    match event:
        case Output():
            return replace(done, outputs=(*done.outputs, event))
        case Usage():
            return replace(done, usage=added(done.usage, event))
        case Done():
            return replace(
                event,
                outputs=done.outputs + event.outputs,
                faults=done.faults + event.faults,
                usage=added(done.usage, event.usage),
            )


def added(before: Usage, more: Usage) -> Usage:
    """The count so far and the next: a stream of several pictures may bring one for each."""
    return total([usage for usage in (before, more) if usage != Usage()] or [before])


def total(usages: Sequence[Usage]) -> Usage:
    """The sum; a member that one of them lacks is unknown in the sum."""
    if len(usages) == 1:
        return usages[0]

    def summed(name: str) -> float | None:
        values = [getattr(usage, name) for usage in usages]
        return None if None in values else sum(values)

    return msgspec.convert({name: summed(name) for name in Usage.__struct_fields__}, Usage)


def address(path: str, upstream: Upstream) -> str:
    """Where a call goes. Raises `Fault("upstream")` where that is no host of the provider's: it would see the key."""
    if "://" not in path:
        return upstream.base + path
    url, base = httpx.URL(path), httpx.URL(upstream.base)
    if fetch.netloc(url) == fetch.netloc(base) and not url.userinfo:
        return path
    hosts = upstream.translator.PROVIDER.hosts
    if url.scheme == "https" and not url.userinfo and any(fnmatchcase(url.host, host) for host in hosts):
        return path
    raise Fault("upstream", f"The provider named a foreign host: {url.host}", code="foreign_host", final=True)


def passing(fault: Fault, reply: Reply) -> bool:
    """Whether the fault of a poll's reply says nothing of the job itself."""
    if fault.final:
        return False
    if reply.status >= 400 and fault.kind in REFUSED | DOUBTED:
        return True
    return reply.status in PASSING or reply.status >= 500 or fault.code in UNREAD or fault.kind == "missing"


def lost(error: httpx.HTTPError) -> Fault:
    """The answer to a request that was sent did not come, or not whole."""
    if isinstance(error, httpx.TimeoutException):
        return Fault("timeout", f"The provider did not answer: {error}.", code="ambiguous")
    return Fault("upstream", f"The provider's answer was lost: {error}.", code="ambiguous")


def backoff(tried: int) -> float:
    """Seconds before try `tried` + 1: a half, one, two … at most fifteen."""
    return float(min(0.25 * 2**tried, 15.0))


def family(status: int) -> str:
    """A status as a metric's label."""
    return "429" if status == 429 else f"{status // 100}xx"


def is_stream(response: httpx.Response) -> bool:
    """Whether an event stream came; a provider may ignore that one was asked for."""
    return response.is_success and "text/event-stream" in response.headers.get("content-type", "")


async def silent(_: Partial) -> None:
    """For calls that have no previews."""
