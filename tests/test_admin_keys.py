"""`/v1/admin/keys` as a program uses it, against the running server."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.server import KEY, Server, serving

ADMIN = {"Authorization": f"Bearer {KEY}"}
CLIENT = "a-key-that-is-no-admin"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = [{"name": "tests", "key": KEY, "admin": True}, {"name": "client", "key": CLIENT}]
    config: dict[str, Any] = {
        "auth": {"mode": "keys", "keys": keys},
        "tiers": {"pro": {"images_per_minute": 100}, "demo": {"models": ["demo/*"]}},
    }
    with ExitStack() as stack:
        if request.param == "postgres":
            url = stack.enter_context(emptied(request.getfixturevalue("postgres_url")))
            config |= {"database": url, "secret": "the same on all machines"}
        yield stack.enter_context(serving(tmp_path_factory.mktemp("admin"), **config))


@contextmanager
def emptied(url: str) -> Iterator[str]:
    """The URL of an empty database on that server."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE admin_keys")
        yield f"{url.rpartition('/')[0]}/admin_keys"
        connection.execute("DROP DATABASE admin_keys WITH (FORCE)")


class Admin:
    """A client with an admin key."""

    def __init__(self, server: Server) -> None:
        address = f"{server.base_url}/admin/keys"
        self.http = httpx.Client(base_url=address, headers=ADMIN, trust_env=False, timeout=30)
        self.server = server

    def ask(self, method: str, path: str = "", **body: Any) -> dict[str, Any]:
        answer = self.http.request(method, path, json=body or None)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, method: str, path: str = "", **rest: Any) -> tuple[int, str | None, str | None]:
        answer = self.http.request(method, path, **rest)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return answer.status_code, error["code"], error["param"]

    def models(self, text: str) -> tuple[int, str | None]:
        """What a client with that key gets, who asks for the list of models."""
        headers = {"Authorization": f"Bearer {text}"}
        answer = self.http.get(f"{self.server.base_url}/models", headers=headers)
        return answer.status_code, answer.json().get("error", {}).get("code")


@pytest.fixture
def admin(server: Server) -> Iterator[Admin]:
    made = Admin(server)
    with made.http:
        yield made


GOOD, WRONG = (200, None), (401, "invalid_api_key")


def test_a_key_from_its_making_to_its_end(admin: Admin) -> None:
    made = admin.ask(
        "POST", name="app", email="ann@example.com", tier="pro", models=["demo/*"], metadata={"team": "a"},
        overrides={"images_per_minute": 7, "max_size": "64x32"}, expires_at=int(time.time()) + 3600,
    )  # fmt: skip
    text = made.pop("key")
    assert re.fullmatch(r"sk-pictor-[\w-]{43}", text)
    assert made == {
        "object": "key", "id": made["id"], "name": "app", "prefix": text[:14], "email": "ann@example.com",
        "tier": "pro", "admin": False, "models": ["demo/*"], "metadata": {"team": "a"},
        "overrides": {"images_per_minute": 7, "max_size": [64, 32]}, "created_at": made["created_at"],
        "expires_at": made["expires_at"], "revoked_at": None, "previous_until": None,
        "webhook_url": None,
    }  # fmt: skip
    assert made["id"].startswith("key_")
    assert admin.ask("GET", f"/{made['id']}") == admin.ask("GET", "/app") == made
    assert admin.models(text) == GOOD

    changed = admin.ask("POST", f"/{made['id']}", tier=None, overrides={}, name="app 2", expires_at=None)
    assert changed == made | {"tier": None, "overrides": {}, "name": "app 2", "expires_at": None}

    rotated = admin.ask("POST", f"/{made['id']}/rotate", grace_seconds=60)
    second = rotated.pop("key")
    assert rotated == changed | {"prefix": second[:14], "previous_until": rotated["previous_until"]}
    assert admin.models(text) == admin.models(second) == GOOD
    third = admin.ask("POST", f"/{made['id']}/rotate")["key"]
    assert (admin.models(text), admin.models(second), admin.models(third)) == (WRONG, WRONG, GOOD)

    gone = admin.ask("DELETE", f"/{made['id']}")
    assert (gone["id"], gone["deleted"]) == (made["id"], True)
    assert admin.models(third) == WRONG  # at once
    assert admin.ask("GET", f"/{made['id']}")["revoked_at"] == gone["revoked_at"]
    assert admin.ask("DELETE", f"/{made['id']}") == gone
    for path in ("", "/rotate"):
        assert admin.refused("POST", f"/{made['id']}{path}", json={}) == (400, "key_revoked", None)


def test_a_change_holds_at_once(admin: Admin) -> None:
    made = admin.ask("POST", name="listed")
    headers = {"Authorization": f"Bearer {made['key']}"}

    def listed() -> set[str]:
        answer = admin.http.get(f"{admin.server.base_url}/models", headers=headers)
        return {each["id"] for each in answer.json()["data"]}

    assert any(name.startswith("demo/") for name in listed())
    admin.ask("POST", f"/{made['id']}", models=["nothing"])
    assert listed() == set()
    admin.ask("POST", f"/{made['id']}", models=None, tier="demo")
    assert {name.partition("/")[0] for name in listed()} == {"demo"}
    admin.ask("POST", f"/{made['id']}", overrides={"models": ["bfl/*"]})
    assert listed() == set()


def test_a_made_key_may_be_an_admins(admin: Admin) -> None:
    made = admin.ask("POST", name="second admin", admin=True)
    mine = {"Authorization": f"Bearer {made['key']}"}
    assert admin.ask("GET", "")["object"] == "list"
    assert admin.http.get("", headers=mine).status_code == 200
    admin.ask("POST", "/second admin", admin=False)
    assert admin.refused("GET", headers=mine) == (403, "admin_key_required", None)


def test_pages(admin: Admin) -> None:
    for index in range(3):
        admin.ask("POST", name=f"page {index}")
    every = admin.ask("GET", "?limit=100")
    assert every["has_more"] is False
    assert every["data"] == sorted(every["data"], key=lambda key: str(key["id"]), reverse=True)
    assert {"page 0", "page 1", "page 2"} <= {key["name"] for key in every["data"]}
    assert "key" not in every["data"][0]
    assert (every["first_id"], every["last_id"]) == (every["data"][0]["id"], every["data"][-1]["id"])
    found, after = [], ""
    while True:
        page = admin.ask("GET", f"?limit=2{after}")
        found += page["data"]
        assert page["has_more"] is (len(found) < len(every["data"]))
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert found == every["data"]
    assert admin.ask("GET", f"?after={every['last_id']}") == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": "tests"}, "name_taken", "name"),
        ({"name": "x", "colour": 1}, "unknown_parameter", "colour"),
        ({"name": "x", "tier": "gold"}, "invalid_value", "tier"),
        ({"name": "x", "overrides": {"max_n": 0}}, "invalid_value", "overrides.max_n"),
        ({"name": "x", "metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"name": 1}, "invalid_type", "name"),
        ([], "invalid_type", None),
    ],
)
def test_bad_bodies(admin: Admin, body: Any, code: str, param: str | None) -> None:
    assert admin.refused("POST", json=body) == (400, code, param)


def test_other_bad_requests(admin: Admin) -> None:
    admin.ask("POST", name="here")
    assert admin.refused("POST", json={"name": "here"}) == (400, "name_taken", "name")
    assert admin.refused("POST", content=b"{") == (400, None, None)
    assert admin.refused("POST", content=b'"' + b"x" * 70_000)[:2] == (413, "request_too_large")
    assert admin.refused("GET", "?limit=0") == (400, "integer_below_min_value", "limit")
    assert admin.refused("GET", "?limit=101") == (400, "integer_above_max_value", "limit")
    assert admin.refused("GET", "?limit=x")[1:] == ("invalid_type", "limit")
    assert admin.refused("GET", "?before=x") == (400, "unknown_parameter", "before")
    assert admin.refused("GET", "?after=%00") == (400, "invalid_value", "after")
    assert admin.refused("POST", "/here/rotate", json={"grace_seconds": -1})[1:] == (
        "decimal_below_min_value", "grace_seconds",
    )  # fmt: skip
    assert admin.refused("POST", "/here/rotate", json={"grace": 1})[1:] == ("unknown_parameter", "grace")
    for method, path in (("GET", "/no"), ("POST", "/no"), ("DELETE", "/no%00"), ("POST", "/no/rotate")):
        assert admin.refused(method, path) == (404, "key_not_found", "id")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", ""), ("GET", "/x"), ("POST", "/x"), ("DELETE", "/x"), ("POST", "/x/rotate")],
)
def test_for_admins_alone(admin: Admin, method: str, path: str) -> None:
    client = {"Authorization": f"Bearer {CLIENT}"}
    assert admin.refused(method, path, headers=client) == (403, "admin_key_required", None)
    with httpx.Client(base_url=str(admin.http.base_url), trust_env=False) as nobody:
        assert nobody.request(method, path).json()["error"]["code"] == "missing_api_key"


def test_wrong_keys_are_slowed(server: Server, admin: Admin) -> None:
    good = admin.ask("POST", name="unhurried")["key"]
    assert admin.models(good) == GOOD
    found = [admin.models(f"sk-guess-{index}") for index in range(60)]
    assert (429, "rate_limit_exceeded") in found
    assert set(found) == {WRONG, (429, "rate_limit_exceeded")}
    assert admin.models(good) == GOOD
    answer = httpx.get(f"{server.base_url}/models", headers={"api-key": "sk-another"}, trust_env=False)
    assert 1 <= int(answer.headers["retry-after"]) <= 3


def test_no_text_of_a_key_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        made = Admin(server)
        text = made.ask("POST", name="app")["key"]
        assert made.models(text) == GOOD
        made.http.close()
        files = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert files
        assert not [each for each in files if text[14:].encode() in each]
        assert text[14:] not in server.log.read_text()
    with sqlite3.connect(tmp_path / "data" / "pictor.db") as database:
        assert database.execute("SELECT name FROM key").fetchall() == [("app",)]
    database.close()
