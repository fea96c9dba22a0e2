"""kill -9 in the middle of a hundred calls, again and again: what was answered is not lost, nothing is billed twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.fakes.base import running
from tests.lab import PNG, Lab, total, wait
from tests.server import KEY, Server, serving

ROUNDS = 20
IN_FLIGHT = 100
PRICE = 0.04
HEADERS = {"Authorization": f"Bearer {KEY}"}


def configured(fake: Lab, **more: Any) -> dict[str, Any]:
    model = {"ops": ["generate"], "prices": [{"unit": "image", "amount": PRICE}]}
    return {
        "providers": {"lab": {"translator": "openai", "base_url": f"{fake.url}/v1", "models": {"painter": model}}},
        "auth": {"mode": "keys", "keys": [{"name": "tests", "key": KEY, "admin": True, "tier": "pro"}]},
        "tiers": {"pro": {"budget_usd_per_month": 100_000, "images_per_minute": 1_000_000}},
        **more,
    }


class Clients:
    """A hundred clients that each ask again as soon as they are answered, until the server is gone."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.answered: dict[str, str] = {}  # task -> prompt
        self.asked = 0

    async def run(self, kill_after: int) -> None:
        """Kill the server once so many calls were answered."""
        self.kill_after = kill_after
        limit = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=limit, headers=HEADERS) as session:
            await asyncio.gather(*(self.client(session) for _ in range(IN_FLIGHT)))

    async def client(self, session: aiohttp.ClientSession) -> None:
        while True:
            self.asked += 1
            prompt = f"soon {self.name}-{self.asked}"
            body = {"model": "lab/painter", "prompt": prompt}
            try:
                async with session.post(f"{self.server.base_url}/images/generations", json=body) as response:
                    await response.read()
            except aiohttp.ClientError:
                return
            assert response.status == 200, response
            self.answered[response.headers["x-pictor-task"]] = prompt
            if len(self.answered) == self.kill_after:
                self.server.process.send_signal(signal.SIGKILL)


def every_task(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with httpx.Client(headers=HEADERS, trust_env=False, timeout=30) as client:
        after = None
        while True:
            query = {"limit": 100} | ({"after": after} if after else {})
            page = client.get(f"{server.base_url}/tasks", params=query).json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["last_id"]


def settled(server: Server) -> None:
    """Returns when the dead process's calls have got their end."""
    query = {"status": "in_progress"}

    def running() -> list[Any]:
        found = httpx.get(f"{server.base_url}/tasks", params=query, headers=HEADERS, trust_env=False)
        data: list[Any] = found.json()["data"]
        return data

    wait(lambda: not running(), 30)


def check(server: Server, answered: dict[str, str], upstream: Lab) -> None:
    """What holds after a restart."""
    settled(server)
    tasks = {each["id"]: each for each in every_task(server)}
    assert answered.keys() <= tasks.keys()
    for id, prompt in answered.items():
        assert tasks[id]["status"] == "completed"
        assert tasks[id]["request"]["prompt"] == prompt
        assert tasks[id]["cost_usd"] == PRICE
    assert {each["status"] for each in tasks.values()} <= {"completed", "failed"}
    assert {each["error"]["code"] for each in tasks.values() if each["status"] == "failed"} <= {"interrupted"}
    # none was made twice, so none was paid twice
    assert set(Counter(upstream.prompts).values()) == {1}
    # history, ledger and account say the same
    with httpx.Client(headers=HEADERS, trust_env=False, timeout=30) as client:
        usage = client.get(f"{server.base_url}/admin/usage").json()["data"]
        account = client.get(f"{server.base_url}/account").json()
    paid = round(sum(each["cost_usd"] or 0 for each in tasks.values()), 6)
    assert round(sum(each["cost_usd"] for each in usage), 6) == paid
    assert account["budgets"]["month"]["spent_usd"] == paid
    assert account["budgets"]["month"]["reserved_usd"] == 0
    for each in list(tasks.values())[:20]:
        if each["status"] == "completed":
            assert httpx.get(each["outputs"][0]["url"], trust_env=False).content == PNG


def crashed(folder: Path, upstream: Lab, rounds: int, **more: Any) -> None:
    answered: dict[str, str] = {}
    for number in range(rounds):
        with serving(folder, **configured(upstream, **more)) as server:
            if number % 5 == 1:
                check(server, answered, upstream)
            clients = Clients(server, str(number))
            asyncio.run(clients.run(50 + 13 * (number % 7)))
            answered |= clients.answered
    with serving(folder, **configured(upstream, **more)) as server:
        check(server, answered, upstream)
        before = len(upstream.made)
        with httpx.Client(headers=HEADERS, trust_env=False, timeout=30) as client:
            for index in range(5):
                body = {"model": "lab/painter", "prompt": f"soon last-{index}"}
                assert client.post(f"{server.base_url}/images/generations", json=body).status_code == 200
        assert len(upstream.made) == before + 5
        assert total(server, "cost_usd_total") == pytest.approx(5 * PRICE)
        assert total(server, "pictures_total") == 5
    assert len(answered) >= 50 * rounds


def test_kill_9_twenty_times(tmp_path: Path) -> None:
    upstream = Lab()
    with running(upstream):
        crashed(tmp_path, upstream, ROUNDS)


def test_kill_9_on_postgresql(tmp_path: Path, postgres: str) -> None:
    upstream = Lab()
    with running(upstream):
        crashed(tmp_path, upstream, 3, database=postgres, secret="a secret that all machines share")
