"""Tells clients of the ends of their tasks, until they have heard it or a day has passed.

Every process looks for what is due, and takes for itself what it tries. The addresses are the clients': they are
guarded as those of pictures are, and get no credential, no redirect, and little time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import httpx
from msgspec import Struct

from proxy import invalid, webhook_secrets, wire
from proxy.config import Config
from proxy.fetch import checked, netloc
from proxy.http import Allowed, Pools, Refused, is_address
from proxy.logs import log, warn
from proxy.metrics import Metrics
from proxy.state import deliveries
from proxy.state.database import Database, milliseconds
from proxy.state.deliveries import Delivery, Due, Outcome
from translators.base import Fault

LONGEST = 2083  # characters of an address
MOST = 64  # tries at once in this process
EACH = 8  # of them at one address: a slow receiver does not hold up the others
SECONDS = 10.0  # of one try
READ = 4096  # bytes of an answer, so that its connection can be used again
LEASE = 30_000  # milliseconds for which a try is this process's own; longer than it takes
LOOK = 5.0  # seconds between two looks for what other processes have left, or a command wants told again
PAUSE = 1.0  # seconds between two tries of a database that is away
REST = 0.5  # seconds that tries are given at the end
DELAYS = (5, 30, 60, 120, 180, 300, 600, 1200, 3600, 7200, 14_400, 21_600, 36_000)
"""Seconds after each failed try: dense for a quarter of an hour, as most receivers are back by then; 23.7 hours in all.
One who was away for ten minutes hears within two. https://www.standardwebhooks.com/ recommends a day."""

GONE = 410  # the one answer that means "never again"


def check_url(url: str, param: str, allowed: Allowed) -> str:
    """`url`, where something may be told there, as far as can be seen without DNS. Raises `Fault("invalid")`."""
    if not url:
        raise invalid.empty(param)
    if len(url) > LONGEST:
        raise invalid.too_long(param, LONGEST, len(url))
    try:
        host = checked(url).host
    except Refused as error:
        why = str(error)
    else:
        known = allowed.host(host) or not (is_address(host) or local(host)) or allowed.address(host)
        if known and url.isprintable():
            return url
        why = "the host is not public" if not known else "not a valid address"
    text = f"Invalid '{param}': {why}. Expected a public address such as 'https://app.example/hooks'."
    raise invalid.invalid_value(param, text)


def local(host: str) -> bool:
    """Whether the name means the machine that asks."""
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def place(url: str) -> str:
    """Its scheme and host: what stands behind them may be a secret."""
    try:
        return netloc(checked(url))
    except Refused:
        return "no address"


class Parts(Struct, frozen=True):
    """What a reload changes."""

    config: Config
    pools: Pools


class Webhooks:
    """The teller of one process. `parts` gives what holds now; `now` is the time in milliseconds."""

    def __init__(
        self, database: Database, secret: bytes, parts: Callable[[], Parts], metrics: Metrics,
        now: Callable[[], int] = milliseconds,
    ) -> None:  # fmt: skip
        self._database = database
        self._secret = secret
        self._parts = parts
        self._metrics = metrics
        self._now = now
        self._wake = asyncio.Event()
        self._trying: dict[str, str] = {}  # delivery -> its address
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; the tables must be there. Once more does nothing."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._go_on())

    def wake(self) -> None:
        """Look now: something has been written that is due."""
        self._wake.set()

    @property
    def busy(self) -> int:
        """How many tries are under way."""
        return len(self._trying)

    async def aclose(self) -> None:
        """End within a second. What is cut off is due again once its lease is over."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=REST)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._round()
            except Fault:
                pause = PAUSE
            except Exception as error:
                log.error("unforeseen error of the webhooks", exc_info=error)
                pause = LOOK
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _round(self) -> float:
        """Begin what can be begun; the seconds until there may be more, where nobody wakes us."""
        if len(self._trying) >= MOST:
            return LOOK
        now, busy = self._now(), Counter(self._trying.values())
        full = [url for url, count in busy.items() if count >= EACH]
        found = await self._database.read(partial(deliveries.look, now, full))
        chosen = self._chosen(found.ready, busy)
        if not chosen:
            return LOOK if found.next is None else min(LOOK, max(0.0, (found.next - now) / 1000))
        for due in await self._database.write(partial(deliveries.claim, chosen, now, now + LEASE)):
            self._trying[due.delivery.id] = due.delivery.url
            task = asyncio.create_task(self._tell(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return 0.0

    def _chosen(self, ready: Iterable[tuple[str, str]], busy: Counter[str]) -> list[str]:
        chosen: list[str] = []
        for id, url in ready:
            if len(self._trying) + len(chosen) >= MOST:
                break
            if busy[url] < EACH and id not in self._trying:
                busy[url] += 1
                chosen.append(id)
        return chosen

    async def _tell(self, due: Due) -> None:
        delivery = due.delivery
        try:
            outcome = await self._tried(due)
            while True:
                try:
                    await self._database.write(partial(deliveries.settle, delivery, outcome))
                    break
                except Fault:  # else it would be told again
                    await asyncio.sleep(PAUSE)
        except Exception as error:
            log.error("unforeseen error of a webhook", exc_info=error)
        finally:
            del self._trying[delivery.id]
            self._wake.set()  # there is a place, and what is told of a task next may go

    async def _tried(self, due: Due) -> Outcome:
        """Tell it once."""
        delivery, status = due.delivery, None
        try:
            async with asyncio.timeout(SECONDS):
                status = await self._posted(due)
            text = f"status {status}"
        except Refused as error:
            return self._ended(delivery, "refused", Outcome("failed", f"refused: {error}"))
        except TimeoutError:
            text = f"no answer within {SECONDS:.0f} seconds"
        except (httpx.HTTPError, OSError) as error:
            text = str(error) or type(error).__name__
        except Exception as error:  # of an address that nobody foresaw: its tries must come to an end
            log.error("unforeseen error of a webhook", exc_info=error)
            text = type(error).__name__
        if status is not None and 200 <= status < 300:
            return self._ended(delivery, "delivered", Outcome("delivered", text))
        if status == GONE or delivery.tries > len(DELAYS):
            return self._ended(delivery, "given_up", Outcome("failed", text))
        wait = DELAYS[delivery.tries - 1] * random.uniform(0.9, 1.0)  # noqa: S311  # so that not all come back at once
        return self._ended(delivery, "retried", Outcome("pending", text, self._now() + round(wait * 1000)))

    async def _posted(self, due: Due) -> int:
        """The status of the answer. Raises httpx's errors."""
        delivery, now, parts = due.delivery, self._now(), self._parts()
        body = delivery.body.encode()
        secrets = webhook_secrets.of(parts.config, self._secret, delivery.key, due.version, due.rotated, now)
        headers = {
            "Content-Type": "application/json", "User-Agent": wire.AGENT, "Accept": "*/*",
            "Accept-Encoding": "identity", **webhook_secrets.headers(secrets, delivery.id, now // 1000, body),
        }  # fmt: skip
        request = httpx.Request(
            "POST", checked(delivery.url), headers=headers, content=body,
            extensions={"timeout": {"connect": SECONDS, "read": SECONDS}},
        )  # fmt: skip
        response = await parts.pools.foreign.handle_async_request(request)
        try:
            with suppress(httpx.HTTPError, TimeoutError):  # what it says beside its status does not matter
                async with asyncio.timeout(1.0):
                    await drained(response)
        finally:
            await response.aclose()
        return response.status_code

    def _ended(self, delivery: Delivery, result: str, outcome: Outcome) -> Outcome:
        """The outcome, counted; a failure is written to the log, without what stands behind the address's host."""
        self._metrics.count("webhooks_total", result)
        if result != "delivered":
            warn(
                "a webhook was not heard", delivery=delivery.id, task=delivery.task, at=place(delivery.url),
                tries=delivery.tries, why=outcome.text, result=result,
            )  # fmt: skip
        return outcome


async def drained(response: httpx.Response) -> None:
    """Read the beginning of the answer."""
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > READ:
            return
