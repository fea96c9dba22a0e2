"""Tokens from real token servers: cached, renewed in time and once, and no secret in what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.catalog import Credential
from proxy.credentials import Credentials
from tests.fakes.base import WRONG_KEY, running
from tests.fakes.vertex import Vertex
from translators.base import Fault, Secret

SECRET = "s3cr3t+/=&"


@dataclass
class Clock:
    now: float = 1_795_176_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class TokenServer:
    """OAuth's client credentials (RFC 6749, section 4.4); `answers` go before its own."""

    url: str = ""
    forms: list[dict[str, str]] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    lifetime: Any = 3600
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        self.asked.set()
        await self.open.wait()
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text, content_type="application/json")
        if form.get("client_secret") != SECRET:
            refused = {"error": "invalid_client", "error_description": f"wrong secret {form.get('client_secret')}"}
            return web.json_response(refused, status=401)
        return web.json_response(
            {"access_token": f"token-{len(self.forms)}", "expires_in": self.lifetime, "token_type": "Bearer"}
        )


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    made = TokenServer()
    made.open.set()
    app = web.Application()
    app.router.add_post("/token", made.token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = "http://{}:{}/token".format(*runner.addresses[0][:2])
    yield made
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def credentials(clock: Clock) -> AsyncIterator[Credentials]:
    async with aiohttp.ClientSession() as session:

        async def fetch(
            method: str, url: str, headers: Mapping[str, str], body: bytes
        ) -> tuple[int, Mapping[str, str], bytes]:
            async with session.request(method, url, headers=headers, data=body) as answer:
                return answer.status, answer.headers, await answer.read()

        made = Credentials(fetch, clock)
        yield made
        await made.settle()


def client(server: TokenServer, secret: str = SECRET, **more: str) -> Credential:
    grant = {"grant": "client_credentials", "token_url": server.url, "client_id": "app", "client_secret": secret}
    return Credential("azure#1", Secret("", extra={"a": "b"}), grant | more)


async def test_a_ready_secret_is_itself(credentials: Credentials) -> None:
    secret = Secret("key")
    assert await credentials.secret(Credential("bfl#1", secret)) is secret


async def test_service_account_against_a_server_that_verifies_it(credentials: Credentials, clock: Clock) -> None:
    with running(Vertex(clock=clock)) as fake:
        grant = fake.config()["credentials"] | {"grant": "jwt", "scope": ""}
        credential = Credential("vertex#1", Secret(""), grant)
        first = await credentials.secret(credential)
        assert (first.key, first.kind) == ("ya29.0", "bearer")
        assert await credentials.secret(credential) == first
        clock.now += 3600
        assert (await credentials.secret(credential)).key == "ya29.1"
        assert len(fake.seen) == 2


async def test_service_account_that_is_refused(credentials: Credentials, clock: Clock) -> None:
    with running(Vertex(clock=clock)) as fake:
        grant = fake.config(WRONG_KEY)["credentials"] | {"grant": "jwt"}
        with pytest.raises(Fault, match=r"vertex#1.* 127\.0\.0\.1 answered HTTP 400, invalid_grant") as caught:
            await credentials.secret(Credential("vertex#1", Secret(""), grant))
    assert caught.value.kind == "auth"


async def test_client_credentials(credentials: Credentials, server: TokenServer) -> None:
    secret = await credentials.secret(client(server, scope="https://a/.default"))
    assert secret == Secret("token-1", "bearer", {"a": "b"})
    assert server.forms == [
        {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET, "scope": "https://a/.default"}
    ]


async def test_many_calls_wait_for_one_token(credentials: Credentials, server: TokenServer) -> None:
    got = await asyncio.gather(*(credentials.secret(client(server)) for _ in range(50)))
    assert {secret.key for secret in got} == {"token-1"}
    assert len(server.forms) == 1


async def test_a_caller_that_leaves_does_not_take_the_token_along(
    credentials: Credentials, server: TokenServer
) -> None:
    server.open.clear()
    leaves = asyncio.create_task(credentials.secret(client(server)))
    await server.asked.wait()
    stays = asyncio.create_task(credentials.secret(client(server)))
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    server.open.set()
    assert (await stays).key == "token-1"
    assert len(server.forms) == 1


async def test_renewed_before_its_end_while_the_old_one_serves(
    credentials: Credentials, server: TokenServer, clock: Clock
) -> None:
    await credentials.secret(client(server))
    clock.now += 3299
    assert (await credentials.secret(client(server))).key == "token-1"
    assert len(server.forms) == 1
    clock.now += 1  # five minutes are left
    server.open.clear()
    server.asked.clear()
    assert (await credentials.secret(client(server))).key == "token-1"
    await server.asked.wait()
    assert (await credentials.secret(client(server))).key == "token-1"
    server.open.set()
    await credentials.settle()
    assert (await credentials.secret(client(server))).key == "token-2"
    assert len(server.forms) == 2


async def test_a_failed_renewal_leaves_the_old_token_while_it_lives(
    credentials: Credentials, server: TokenServer, clock: Clock
) -> None:
    await credentials.secret(client(server))
    clock.now += 3400
    server.answers = [(503, "down")]
    assert (await credentials.secret(client(server))).key == "token-1"
    await credentials.settle()
    assert (await credentials.secret(client(server))).key == "token-1"
    await credentials.settle()
    assert len(server.forms) == 2, "the next try is not at once"
    clock.now += 31
    assert (await credentials.secret(client(server))).key == "token-1"
    await credentials.settle()
    assert (await credentials.secret(client(server))).key == "token-3"


async def test_a_dead_token_is_not_sent(credentials: Credentials, server: TokenServer, clock: Clock) -> None:
    await credentials.secret(client(server))
    clock.now += 3600
    server.answers = [(503, "down")]
    with pytest.raises(Fault) as caught:
        await credentials.secret(client(server))
    assert caught.value.kind == "overloaded"
    assert (await credentials.secret(client(server))).key == "token-3"


@pytest.mark.parametrize("lifetime", [3600, "3600", 3600.5])
async def test_lifetimes_come_as_text_too(
    credentials: Credentials, server: TokenServer, clock: Clock, lifetime: Any
) -> None:
    server.lifetime = lifetime
    await credentials.secret(client(server))
    clock.now += 3299
    await credentials.secret(client(server))
    assert len(server.forms) == 1


async def test_another_grant_under_the_same_name_is_another_token(
    credentials: Credentials, server: TokenServer
) -> None:
    await credentials.secret(client(server))
    assert (await credentials.secret(client(server, scope="x"))).key == "token-2"


async def test_a_token_that_was_refused_is_forgotten_once(credentials: Credentials, server: TokenServer) -> None:
    first = await credentials.secret(client(server))
    credentials.forget(client(server), first)
    second = await credentials.secret(client(server))
    assert second.key == "token-2"
    credentials.forget(client(server), first)
    assert await credentials.secret(client(server)) == second


@pytest.mark.parametrize(
    ("status", "text", "kind", "code"),
    [
        (400, '{"error": "invalid_grant"}', "auth", "invalid_grant"),
        (400, '{"error": "unauthorized_client"}', "permission", "unauthorized_client"),
        (503, '{"error": "temporarily_unavailable"}', "overloaded", "temporarily_unavailable"),
        (401, "", "auth", "token_unavailable"),
        (429, "slow down", "rate", "token_unavailable"),
        (500, "<html>", "upstream", "token_unavailable"),
        (400, json.dumps({"error": f"your secret is {SECRET}"}), "auth", "token_unavailable"),
        (400, '{"error": {"code": 400}}', "auth", "token_unavailable"),
        (200, "<html>", "upstream", "token_unavailable"),
        (200, "{}", "upstream", "token_unavailable"),
        (200, '{"access_token": ""}', "upstream", "token_unavailable"),
    ],
)  # fmt: skip
async def test_what_a_token_server_may_answer(
    credentials: Credentials, server: TokenServer, status: int, text: str, kind: str, code: str
) -> None:
    server.answers = [(status, text)]
    with pytest.raises(Fault) as caught:
        await credentials.secret(client(server))
    assert (caught.value.kind, caught.value.code) == (kind, code)
    assert "azure#1" in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


async def test_no_secret_in_the_text_of_a_refusal(credentials: Credentials, server: TokenServer) -> None:
    with pytest.raises(Fault, match="invalid_client") as caught:
        await credentials.secret(client(server, "other-secret"))
    assert "other-secret" not in str(caught.value)


async def test_a_server_that_is_not_there(credentials: Credentials, server: TokenServer) -> None:
    gone = client(server, token_url="http://127.0.0.1:1/token")
    with pytest.raises(Fault, match="cannot be reached") as caught:
        await credentials.secret(gone)
    assert caught.value.kind == "upstream"


@pytest.mark.parametrize(
    ("grant", "says"),
    [
        ({"grant": "client_credentials", "token_url": "http://x/", "client_id": "a"}, "lacks client_secret"),
        ({"grant": "jwt", "token_uri": "http://x/", "private_key": "k"}, "lacks client_email"),
        ({"grant": "jwt", "token_uri": "http://x/", "private_key": "k3y", "client_email": "a"}, "private_key is not"),
        ({"grant": "password"}, "grant must be jwt or client_credentials, not password"),
    ],
)
async def test_grants_that_cannot_work(credentials: Credentials, grant: dict[str, str], says: str) -> None:
    with pytest.raises(Fault, match=says) as caught:
        await credentials.secret(Credential("x#1", Secret(""), grant))
    assert caught.value.kind == "auth"
    assert "k3y" not in str(caught.value)
