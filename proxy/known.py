"""Which call is the same as one before: by its Idempotency-Key, its SDK's word that it tries again, its alias's cache.

What is found still runs, here or in another process, or has ended: then its result is read from its row and the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy import record
from proxy.answer import Picture, Result
from proxy.ask import FileRef
from proxy.catalog import Route
from proxy.config import Cache
from proxy.craft import AnyAsk
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.state.database import milliseconds
from proxy.state.ledger import Task
from proxy.works import AGAIN_SECONDS, Work
from translators.base import Fault

INLINE = 64 * 1024  # bytes of pictures up to which a request is digested on the event loop
LOOKS = (0.1, 0.2, 0.4, 0.8, 1.0)  # seconds between looks for the end of another process's work


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A making call as it came in."""

    caller: Caller
    ask: AnyAsk
    request_id: str
    strict: bool = False
    idempotency_key: str | None = None
    again: bool = False  # the SDK says that it tries again
    durable: bool = False  # nobody need wait for it


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """By what a call may be known again."""

    print: str | None = None  # of owner and request; `None`: too large to be taken at once
    claim: str | None = None  # of owner and Idempotency-Key
    cached: str | None = None  # of the request, where its alias keeps answers


async def marked(wanted: Wanted, route: Route[Any]) -> Marks:
    """By what this call may be known again, as far as that must be known before it begins."""
    owner, ask = wanted.caller.id, replace(wanted.ask, model=route.name)
    cache = route.cache
    needed = wanted.again or wanted.durable or wanted.idempotency_key is not None or cache is not None
    content = print = cached = None
    if record.weight(ask) <= INLINE:
        content = record.content(ask)
    elif needed:
        content = await asyncio.to_thread(record.content, ask)
    if content is not None:
        print = record.mark("call", owner, content)
        if cache is not None:
            shared = cache.shared and not own_files(ask) and not wanted.durable  # a task is its own key's alone
            whose = "" if shared else owner
            how = "strict" if wanted.strict else ""  # who is strict gets nothing that was adjusted
            cached = record.mark("cached", whose, how, content)
    key = wanted.idempotency_key
    return Marks(print=print, claim=record.mark("claim", owner, key) if key else None, cached=cached)


def own_files(ask: AnyAsk) -> bool:
    """Whether it names uploads of its key's: no other key may have what is made of them."""
    return any(isinstance(each, FileRef) for each in ask.sources) or getattr(ask, "origin", None) is not None


async def find(gateway: Gateway, wanted: Wanted, marks: Marks, route: Route[Any]) -> Work | None:
    """The work that this call repeats, if it does."""
    if marks.claim is not None:
        return await by_claim(gateway, wanted, marks)
    if route.cache is not None and (found := await by_cache(gateway, wanted, marks.cached, route.cache)):
        return found
    if wanted.again and marks.print is not None and not gateway.works.fresh(marks.print):
        return await by_print(gateway, wanted, marks)
    return None


async def by_claim(gateway: Gateway, wanted: Wanted, marks: Marks) -> Work | None:
    """What was begun under the same Idempotency-Key. Raises where it was another call, or one that failed for good."""
    claim = marks.claim or ""
    if running := gateway.works.by_mark.get(claim):
        same_call(running.print, marks.print)
        return recovered(gateway, running, "key")
    if not gateway.config.history.enabled:
        return None
    row = await gateway.history.claimed(claim)
    if row is None:
        return None
    same_call(row.fingerprint, marks.print)
    if wanted.durable:
        return recovered(gateway, Elsewhere(gateway, wanted, row), "key")
    return recovered(gateway, await kept(gateway, wanted, await ended(gateway, row)), "key")


def same_call(before: str | None, now: str | None) -> None:
    """Raises where an Idempotency-Key came with another request."""
    if before != now:
        raise Fault(
            "invalid",
            "This Idempotency-Key was used with another request. Use a new key for each request, and the same one "
            "only to repeat it.",
            code="idempotency_key_reused",
        )


async def by_print(gateway: Gateway, wanted: Wanted, marks: Marks) -> Work | None:
    """What an SDK's own retry repeats: a call that still runs here, or one whose client left without the answer."""
    if running := gateway.works.like(marks.print or ""):
        return recovered(gateway, running, "retry")
    if not gateway.config.history.enabled:
        return None
    since = milliseconds() - int(AGAIN_SECONDS * 1000)
    row = await gateway.history.lost(marks.print or "", wanted.caller.id, since)
    if row is None:
        return None
    if wanted.durable and row.ended is None:
        return recovered(gateway, Elsewhere(gateway, wanted, row), "retry")
    row = await ended(gateway, row)
    if row.status == "failed" and row.cost == 0 and not row.wasted:
        return None  # it cost nothing: this is a new try
    if wanted.durable:
        return recovered(gateway, Elsewhere(gateway, wanted, row), "retry")
    return recovered(gateway, await kept(gateway, wanted, row), "retry")


async def by_cache(gateway: Gateway, wanted: Wanted, mark: str | None, cache: Cache) -> Work | None:
    """What the same request made before, or is making."""
    if mark is None:
        return None
    if running := gateway.works.by_mark.get(mark):
        gateway.metrics.count("cache_hits_total", "joined")
        return running.shared(wanted.caller.id)
    oldest = milliseconds() - int(cache.seconds * 1000)
    row = gateway.works.cached.get(mark) or await gateway.history.same(mark, oldest)
    if row is None or row.ended is None or row.ended < oldest:
        return None
    try:
        if wanted.durable:
            return await by_cached_task(gateway, wanted, row.id)
        found = await kept(gateway, wanted, row)
    except Fault:  # its files are gone
        gateway.works.cached.pop(mark, None)
        return None
    gateway.metrics.count("cache_hits_total", "kept")
    return found.shared(wanted.caller.id)


async def by_cached_task(gateway: Gateway, wanted: Wanted, id: str) -> Work:
    """The task itself, as long as it has its files. Raises `Fault("missing")`."""
    row = await gateway.history.one(id, wanted.caller.id)
    for each in record.outputs(row.result):
        await gateway.files.open(each.get("id", ""))
    found = Elsewhere(gateway, wanted, row)
    found.headers = {**found.headers, "x-pictor-cache": "hit"}
    found.free = True
    gateway.metrics.count("cache_hits_total", "kept")
    return found


def recovered(gateway: Gateway, work: Work, how: str) -> Work:
    """Count that a result was asked for again."""
    gateway.metrics.count("results_recovered_total", how)
    work.lost = False
    return work


class Elsewhere(Work):
    """What another process makes, or what has ended: its result is read when somebody waits for it."""

    __slots__ = ("_gateway", "_row", "_wanted")

    def __init__(self, gateway: Gateway, wanted: Wanted, row: Task) -> None:
        super().__init__(row.id, row.key, asyncio.get_running_loop().create_future(), {"x-pictor-task": row.id})
        self._gateway, self._wanted, self._row = gateway, wanted, row

    async def wait(self) -> Result:
        """As of every work. Raises the fault with which it ended."""
        found = await kept(self._gateway, self._wanted, await ended(self._gateway, self._row))
        found.free = self.free
        return await found.wait()


async def ended(gateway: Gateway, row: Task) -> Task:
    """The row once its work has ended, wherever that runs."""
    looks = iter(LOOKS)
    while row.ended is None:
        if running := gateway.works.running.get(row.id):
            with suppress(Exception):
                await running.wait()
        await asyncio.sleep(next(looks, LOOKS[-1]))
        found = await gateway.history.get(row.id)
        if found is None:
            raise just_failed()
        row = found
    return row


def just_failed() -> Fault:
    """Of a call that waited for one with the same Idempotency-Key, which was refused: the key is free again."""
    return Fault("overloaded", "The same call has just failed.", code="server_is_overloaded", retry_after=1)


async def kept(gateway: Gateway, wanted: Wanted, row: Task) -> Work:
    """The result of a row. Raises the fault with which it ended, or where its files are gone."""
    if row.error is not None or row.result is None:
        fault = record.fault_of(row.error or {"kind": "upstream", "message": "The task has no result."})
        fault.passing = row.cost is None  # it may have been paid for: nobody makes it again unasked
        raise fault
    respond = row.result["respond"]
    pictures = [await again(gateway, each, respond) for each in record.outputs(row.result)]
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    done.set_result(record.result_from(row.result, wanted.ask, row.model or row.asked, pictures, row.cost))
    return Work(row.id, row.key, done, {"x-pictor-task": row.id})


async def again(gateway: Gateway, output: Mapping[str, object], respond: str) -> Picture:
    """A stored output, to be answered once more."""
    told = record.picture_from(output)
    if told.stored is None:
        if told.url is None:
            raise Fault("missing", "The pictures of this task were not kept.", code="output_not_found")
        return told
    stored = await gateway.files.open(told.stored)
    if respond == "url":
        return replace(told, url=gateway.link(stored.id))
    return replace(told, blob=await gateway.files.fetched(stored))
