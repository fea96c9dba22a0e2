"""What the routes of the history answer from: real parts with rows that the ledger wrote, behind a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from litestar import Litestar, Request, Response
from litestar.datastructures import State

from proxy.api import account, outputs, tasks, usage
from proxy.config import Auth, Config, Key, Tier
from proxy.errors import as_fault, problem
from proxy.keys import Keys
from proxy.pixels import Pixels
from proxy.state import ids
from proxy.state.budgets import Reservation
from proxy.state.database import Database
from proxy.state.files import Files
from proxy.state.history import History
from proxy.state.keys import KeyStore
from proxy.state.ledger import Ledger
from proxy.state.records import Ending, Entry, Task
from proxy.works import Works
from translators.base import Secret

SECRET = b"0123456789abcdef0123456789abcdef"
ALICE, BOB, ADMIN = "config:alice", "config:bob", "config:admin"
NOON = 1_795_176_000_000  # 2026-11-20 12:00 UTC, in milliseconds
CONFIG = Config(
    auth=Auth(
        mode="keys",
        default_tier="pro",
        keys=(
            Key(name="alice", key=Secret("alice-key")),
            Key(name="bob", key=Secret("bob-key"), tier="free"),
            Key(name="admin", key=Secret("admin-key"), admin=True),
        ),
    ),
    tiers={
        "pro": Tier(
            models=("demo/*", "bfl/*"), requests_per_minute=60, images_per_minute=120, concurrent_jobs=8, max_n=4,
            max_size=(2048, 1024), budget_usd_per_day=1.0, budget_usd_per_month=10.0,
        ),
        "free": Tier(),
    },
)  # fmt: skip


def made(at: int = NOON, key: str = ALICE, **members: Any) -> Task:
    """A call that was made at that time, in milliseconds; whatever is not said has succeeded."""
    usual: dict[str, Any] = {
        "id": f"task_{at:012x}{ids.new('')[12:]}", "key": key, "created": at, "ended": at + 4_500, "op": "generate",
        "status": "completed", "asked": "house-style", "model": "bfl/flux-2-pro", "worker": "w", "cost": 40_000,
        "request": {"prompt": "a boat", "n": 1},
    }  # fmt: skip
    return Task(**usual | members)


def entry(task: Task, pictures: int = 1, **members: Any) -> Entry:
    """What the ledger keeps of it."""
    at = task.ended or task.created
    provider, _, model = (task.model or "").partition("/")
    usual: dict[str, Any] = {
        "id": task.id, "key": task.key, "at": at, "day": ids.day(at), "op": task.op, "provider": provider,
        "model": model, "status": task.status, "pictures": pictures, "cost": task.cost, "wasted": task.wasted,
    }  # fmt: skip
    return Entry(**usual | members)


class Archive:
    """The parts of a server that its history needs, by the names that they have in a gateway."""

    def __init__(self, database: Database, folder: Path, config: Config = CONFIG) -> None:
        self.config = config
        self.database = database
        self.files = Files(folder, config.files, SECRET)
        self.history = History(database)
        self._folder = folder
        self.keys = Keys(config, KeyStore(database, SECRET), SECRET)
        self.pixels = Pixels()
        self.works = Works()

    def link(self, name: str) -> str:
        """The path and signature under which a stored output can be had."""
        return f"/v1/outputs/{name}?{self.files.sign(name, int(time.time()) + 600)}"

    async def write(self, *written: Task | tuple[Task, Entry]) -> None:
        """Let the ledger write how these ended; a task alone has the entry that it usually has."""
        pairs = [each if isinstance(each, tuple) else (each, entry(each)) for each in written]
        async with self._writing() as ledger:
            await asyncio.gather(*(ledger.end(Ending(*pair)) for pair in pairs))

    async def begin(self, task: Task) -> None:
        """Let the ledger write that it is under way."""
        async with self._writing() as ledger:
            assert await ledger.open(task)

    async def reserve(self, wanted: Reservation) -> None:
        """Let the ledger keep this much of a budget free."""
        async with self._writing() as ledger:
            assert await ledger.reserve(wanted) is None

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Ledger]:
        ledger = Ledger(self.database, self._folder)
        ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop()

    def close(self) -> None:
        """Let go of its threads; the database is somebody else's."""
        self.files.close()
        self.pixels.close()


def _trouble(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    fault = as_fault(error, request.method, request.scope["path"])
    if fault.code == "internal_error":
        traceback.print_exception(error)
    shown = problem(fault)
    return Response(shown.body, status_code=shown.status, headers=shown.headers, media_type="application/json")


@contextmanager
def _listening(archive: Archive) -> Iterator[str]:
    app = Litestar(
        [tasks.tasks, tasks.task, tasks.forget, account.account, usage.usage, usage.tasks, outputs.output],
        exception_handlers={Exception: _trouble}, logging_config=None, state=State({"gateway": archive}),
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Client:
    """One key's view of the server."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self.http = http
        self.headers = {"authorization": f"Bearer {key}"}

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request."""
        return await self.http.request(method, path, headers=self.headers | more.pop("headers", {}), **more)

    async def get(self, path: str, status: int = 200) -> Any:
        """The JSON of an answer, which must have this status; of a failure, the error."""
        answer = await self.send("GET", path)
        assert answer.status_code == status, answer.text
        body = msgspec.json.decode(answer.content)
        return body if status == 200 else body["error"]

    async def listed(self, path: str) -> list[str]:
        """The ids of a page."""
        return [each["id"] for each in (await self.get(path))["data"]]


@asynccontextmanager
async def serving(archive: Archive) -> AsyncIterator[tuple[Client, Client, Client]]:
    """Clients with Alice's key, Bob's and the admin's."""
    with _listening(archive) as address:
        async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
            yield Client(http, "alice-key"), Client(http, "bob-key"), Client(http, "admin-key")
