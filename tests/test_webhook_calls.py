"""Calls that name where their end is to be told: by the official client, heard by a receiver of the client's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from aiohttp import web
from openai import BadRequestError, OpenAI
from standardwebhooks import Webhook

from tests.fakes.base import Fake, Seen, running
from tests.server import KEY, Server, serving

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # which is what lives on here
HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Receiver(Fake):
    """Says yes to whatever it is told."""

    name: ClassVar[str] = "receiver"
    generates: ClassVar[str] = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{name:.*}", self.hear)]

    async def hear(self, _: web.Request) -> web.StreamResponse:
        return web.Response()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("calls"), {"demo": {}}) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    fake = Receiver()
    with running(fake):
        yield fake


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as made:
        yield made


def heard(receiver: Receiver) -> Seen:
    end = time.monotonic() + 20
    while not receiver.seen:
        assert time.monotonic() < end
        time.sleep(0.05)
    (seen,) = receiver.seen
    return seen


def secret(server: Server) -> str:
    answer = httpx.get(f"{server.base_url}/account/webhook", headers=HEADERS, trust_env=False)
    found: str = answer.json()["secrets"][0]
    return found


def names(seen: Seen) -> dict[str, str]:
    return {name.lower(): value for name, value in seen.headers.items()}


@pytest.mark.parametrize("later", [False, True])
def test_a_picture(server: Server, receiver: Receiver, client: OpenAI, *, later: bool) -> None:
    made = client.images.with_raw_response.generate(
        model="demo/painter", prompt="A lighthouse", extra_body={"webhook_url": f"{receiver.url}/hook"},
        extra_headers={"Prefer": "respond-async"} if later else {},
    )  # fmt: skip
    assert made.status_code == (202 if later else 200)
    seen = heard(receiver)
    told: dict[str, Any] = Webhook(secret(server)).verify(seen.body, names(seen))
    assert (told["type"], told["data"]["id"]) == ("task.completed", made.headers["x-pictor-task"])


def test_a_video(server: Server, receiver: Receiver, client: OpenAI) -> None:
    video = client.videos.create(
        model="demo/animation", prompt="A lighthouse", seconds="1",  # type: ignore[arg-type]  # the demo's own
        extra_body={"webhook_url": f"{receiver.url}/hook"},
    )  # fmt: skip
    seen = heard(receiver)
    event: Any = client.webhooks.unwrap(seen.body.decode(), names(seen), secret=secret(server))
    assert (event.type, event.data.id) == ("video.completed", video.id)  # a type that only OpenAI's guide still lists


def create(client: OpenAI) -> Callable[..., Any]:
    return client.videos.create


def generate(client: OpenAI) -> Callable[..., Any]:
    return client.images.generate


@pytest.mark.parametrize("call", [create, generate], ids=["video", "picture"])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://10.0.0.1/hook", "http://a:b@app.example/", "nowhere"])
def test_an_address_where_nothing_is_told(server: Server, client: OpenAI, call: Callable[..., Any], url: str) -> None:
    model = "demo/animation" if call is create else "demo/painter"
    with pytest.raises(BadRequestError) as caught:
        call(client)(model=model, prompt="A lighthouse", extra_body={"webhook_url": url})
    assert (caught.value.param, caught.value.code) == ("webhook_url", "invalid_value")
    assert "https://app.example/hooks" in caught.value.message


def test_a_key_hears_of_all_its_tasks(tmp_path: Path, receiver: Receiver) -> None:
    keys = [{"name": "tests", "key": KEY, "webhook": {"url": f"{receiver.url}/key"}}]
    with serving(tmp_path, {"demo": {}}, auth={"mode": "keys", "keys": keys}) as server:
        body = {"model": "demo/painter", "prompt": "A lighthouse"}
        url = f"{server.base_url}/images/generations"
        answer = httpx.post(url, headers=HEADERS, json=body, trust_env=False)
        assert answer.status_code == 200  # whoever waited for it has heard
        answer = httpx.post(url, headers={**HEADERS, "Prefer": "respond-async"}, json=body, trust_env=False)
        seen = heard(receiver)
        told: dict[str, Any] = Webhook(secret(server)).verify(seen.body, names(seen))
    assert (seen.path, told["data"]["id"]) == ("/key", answer.json()["id"])
