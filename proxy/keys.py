"""Who may call. Keys are known by their HMAC only, so that a look-up tells nothing by its time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from proxy.config import Auth, Key, loopback
from translators.base import Fault, Secret

ANYONE = Key(name="anyone", key=Secret(""))


class Keys:
    """The keys of the configuration. Text is compared by digest under a secret that lives as long as the process."""

    def __init__(self, auth: Auth, public_url: str | None = None) -> None:
        self.open = auth.mode == "open"
        self._origins = None if auth.open_anywhere else frozenset(filter(None, [urlsplit(public_url or "").hostname]))
        self._secret = secrets.token_bytes(32)
        self._known = {self._digest(key.key.key): key for key in auth.keys}

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._secret, text.encode(), hashlib.sha256)

    def who(self, headers: Mapping[str, str]) -> Key:
        """The key that a request came with, as `Authorization: Bearer` or `api-key`. Raises `Fault("auth")`."""
        scheme, _, text = headers.get("authorization", "").partition(" ")
        given = text.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()
        if given and (key := self._known.get(self._digest(given))):
            return key
        if self.open:
            self._check_origin(headers.get("origin"))
            return ANYONE
        if not given:
            raise Fault(
                "auth",
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                code="missing_api_key",
            )
        raise Fault("auth", f"Incorrect API key provided: {masked(given)}.", code="invalid_api_key")

    def _check_origin(self, origin: str | None) -> None:
        """Raises `Fault("permission")` where a browser calls for a page of another site.

        A server that is open to this machine is not open to every page that is read on it: a browser sends such a
        page's POST anywhere, unasked, and the pictures would be paid for.
        """
        if origin is None or self._origins is None:
            return
        host = host_of(origin)
        if not (loopback(host) or host in self._origins):
            raise Fault(
                "permission",
                f"Pages of {origin[:100]} may not call a server without keys. Set auth.keys, server.public_url where "
                "the page is its own, or auth.open_anywhere.",
                code="foreign_origin",
            )


def host_of(origin: str) -> str:
    """The host in an `Origin`; empty where there is none, as in "null"."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def may(key: Key, model: str) -> bool:
    """Whether this key may ask for a model by that name."""
    return any(fnmatchcase(model, pattern) for pattern in key.models)


def check_model(key: Key, model: str) -> None:
    """Raises `Fault("permission")` where it may not."""
    if not may(key, model):
        raise Fault(
            "permission",
            f"The key '{key.name}' may not use the model '{model}'.",
            code="model_not_allowed",
            param="model",
        )


def masked(key: str) -> str:
    """Enough of a key to recognise it, as OpenAI shows it: `sk-ab***yz`."""
    return f"{key[:5]}***{key[-2:]}" if len(key) > 12 else "***"
