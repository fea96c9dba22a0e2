"""One job's calls to its provider: sent, tried again where that cannot pay twice, polled, looked for, stopped.

What may be sent again: a call that cannot pay twice (`Call.repeatable`), a call that was never sent (no connection),
and one that the provider turned away before working on it (`rate`, `overloaded`). A submit whose answer was lost is
*ambiguous*: it may have been paid, so it is never repeated here, and the client's SDK is told not to either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from secrets import token_hex
from typing import TYPE_CHECKING

import httpx
import msgspec
from msgspec.structs import replace

from proxy import fetch, wire
from proxy.catalog import Credential, Upstream
from proxy.http import Refused
from proxy.logs import warn
from proxy.trail import cancelled
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

if TYPE_CHECKING:
    from proxy.engine import Engine

TRIES = 3  # of one call, the first included
POLL_FAULTS = 10  # polls that may fail in a row before a job is given up
POLL_DOUBTS = 3  # "no such task" or "no such key" so often is believed: replicas lag, tokens end
LOOKS = (1.0, 3.0, 6.0)  # seconds before each look for a task whose name did not come
PATIENCE = 5.0  # seconds; a provider that asks for a longer pause is passed on to the next target or the client
TURNED_AWAY: frozenset[FaultKind] = frozenset({"rate", "overloaded"})
PASSING = frozenset({408, 409, 425, 429})  # statuses of a poll that say nothing of the job
DOUBTED: frozenset[FaultKind] = frozenset({"missing", "auth"})
REFUSED: frozenset[FaultKind] = frozenset({"permission", "quota"})  # asking again changes nothing
UNREAD = frozenset({"unreadable", "truncated"})

Emit = Callable[[Partial], Awaitable[None]]


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

    async def looked(self, look: Call, emit: Emit) -> Wait | Done | None:
        """The task that was submitted under the job's mark, whose answer was lost; `None` where there is none."""
        if not isinstance(self.by, Finder):
            return None
        fault: Fault | None = None
        for seconds in LOOKS:  # what was just taken may not be listed yet
            await asyncio.sleep(seconds)
            try:
                answer = await self._exchange(look, "look", silent)
                found = None if isinstance(answer, Done) else self.by.found(self.job, answer)
            except httpx.HTTPError as error:
                fault = lost(error)
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
                reply = await wire.read(call, response, spooled=self.job.op == "video")
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
