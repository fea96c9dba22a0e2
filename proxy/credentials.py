"""Tokens for credentials that are no key themselves: got from a token server, kept in memory, renewed before their end.

A credential with a `grant` is traded for an access token: "jwt" is RFC 7523 with a service account's private key,
"client_credentials" is RFC 6749 section 4.4. No text that leaves this module holds a secret or what a server says
about one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeAlias
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from proxy.catalog import Credential
from translators.base import Fault, FaultKind, Secret
from translators.signing import service_account_assertion

Fetch: TypeAlias = Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""Method, address, headers, body -> status, headers, body. Raises `Fault`, `httpx.HTTPError` or `OSError`."""
Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970."""

AHEAD = 300.0  # seconds before its end that a token is renewed, or half its life where that is less
PAUSE = 30.0  # seconds from a failed renewal to the next, while the old token lives
UNSAID = 600.0  # seconds that a token is taken to live where the server does not say
LIVE = 10.0  # seconds that a token must still live to be sent: the call takes its time

REFUSALS: Mapping[str, FaultKind] = {
    "invalid_client": "auth",
    "invalid_grant": "auth",
    "invalid_request": "auth",
    "invalid_scope": "auth",
    "unauthorized_client": "permission",
    "access_denied": "permission",
    "temporarily_unavailable": "overloaded",
    "server_error": "upstream",
}


class Granted(msgspec.Struct, frozen=True):
    """The token server's answer. Some write the seconds as text."""

    access_token: Annotated[str, msgspec.Meta(min_length=1)]
    expires_in: float = UNSAID


class Refusal(msgspec.Struct, frozen=True):
    """Its error; the description is not read, for it may quote what was sent."""

    error: str = ""


class Token(msgspec.Struct, frozen=True):
    """A token and when to do what, in seconds since 1970."""

    secret: Secret
    ends: float
    renew: float


class Account:
    """What is known about one credential."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.token: Token | None = None
        self.renewal: asyncio.Task[Token] | None = None


class Credentials:
    """Turns each `Credential` into a `Secret` that can be sent.

    While a token lives, nobody waits for the next one: it is fetched beside the work. Only without a live token do
    calls wait, all of them for the same renewal.
    """

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self.fetch = fetch
        self.clock = clock
        self.accounts: dict[str, Account] = {}

    async def secret(self, credential: Credential) -> Secret:
        """The secret to send now. Raises `Fault` where there is none to be had."""
        if not credential.grant:
            return credential.secret
        account = self._account(credential)
        now = self.clock()
        token = account.token
        if token and now < token.renew:
            return token.secret
        if account.renewal is None:
            account.renewal = asyncio.create_task(self._renew(account))
            account.renewal.add_done_callback(looked_at)
        if token and now < token.ends - LIVE:
            return token.secret
        # Shielded: one client that goes away does not take the token from the others.
        return (await asyncio.shield(account.renewal)).secret

    def forget(self, credential: Credential, refused: Secret) -> None:
        """Drop the token that a provider has refused before its time; not the newer one that another call got."""
        account = self.accounts.get(credential.name)
        if account and account.token and account.token.secret == refused:
            account.token = None

    async def settle(self) -> None:
        """Wait for the renewals under way; their faults are nobody's here."""
        running = [account.renewal for account in self.accounts.values() if account.renewal]
        await asyncio.gather(*running, return_exceptions=True)

    def _account(self, credential: Credential) -> Account:
        """Its account; a new one where the configuration now holds another grant under the same name."""
        account = self.accounts.get(credential.name)
        if account is None or account.credential.grant != credential.grant:
            account = self.accounts[credential.name] = Account(credential)
        return account

    async def _renew(self, account: Account) -> Token:
        try:
            account.token = await self._granted(account.credential)
        except Fault:
            old, now = account.token, self.clock()
            if old is None or now >= old.ends - LIVE:
                raise
            account.token = msgspec.structs.replace(old, renew=min(now + PAUSE, old.ends - LIVE))
        finally:
            account.renewal = None
        return account.token

    async def _granted(self, credential: Credential) -> Token:
        """A fresh token from its server."""
        address, form = asked(credential, int(self.clock()))
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        where = f"Credential {credential.name}: the token server {urlsplit(address).hostname}"
        try:
            status, _, body = await self.fetch("POST", address, headers, urlencode(form).encode())
        except (httpx.HTTPError, OSError) as error:
            raise Fault(
                "upstream", f"{where} cannot be reached ({type(error).__name__}).", code="token_unavailable"
            ) from None
        if status != 200:
            raise refusal(where, status, body)
        try:
            granted = msgspec.json.decode(body, type=Granted, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Fault("upstream", f"{where} answered what cannot be read.", code="token_unavailable") from None
        now = self.clock()
        ahead = min(AHEAD, granted.expires_in / 2)
        return Token(
            Secret(granted.access_token, "bearer", credential.secret.extra),
            ends=now + granted.expires_in,
            renew=now + granted.expires_in - ahead,
        )


def looked_at(renewal: asyncio.Task[Token]) -> None:
    """Take a fault that nobody waits for any more, or asyncio reports it as forgotten."""
    if not renewal.cancelled():
        renewal.exception()


def asked(credential: Credential, now: int) -> tuple[str, dict[str, str]]:
    """The token server's address, and the form that it takes."""
    grant = credential.grant
    try:
        if grant["grant"] == "jwt":
            return grant["token_uri"], {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": service_account_assertion(grant, now),
            }
        if grant["grant"] == "client_credentials":
            form = {"grant_type": "client_credentials"}
            form |= {"client_id": grant["client_id"], "client_secret": grant["client_secret"]}
            return grant["token_url"], form | ({"scope": grant["scope"]} if grant.get("scope") else {})
    except KeyError as error:
        raise Fault("auth", f"Credential {credential.name} lacks {error.args[0]}.", code="token_unavailable") from None
    except ValueError:
        raise Fault(
            "auth",
            f"Credential {credential.name}: its private_key is not an RSA key in PEM form.",
            code="token_unavailable",
        ) from None
    raise Fault(
        "auth", f"Credential {credential.name}: grant must be jwt or client_credentials, not {grant['grant']}.",
        code="token_unavailable",
    )  # fmt: skip


def refusal(where: str, status: int, body: bytes) -> Fault:
    """Why there is no token, by the code of RFC 6749 section 5.2, else by the status."""
    try:
        said = msgspec.json.decode(body, type=Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = ""
    code = said if re.fullmatch(r"[a-z_]{1,40}", said) else ""
    kind = REFUSALS.get(code) or by_status(status)
    return Fault(
        kind, f"{where} answered HTTP {status}{f', {code}' if code else ''}.", code=code or "token_unavailable"
    )


def by_status(status: int) -> FaultKind:
    """What a status means that comes without a code."""
    if status == 429:
        return "rate"
    if status in {400, 401, 403}:
        return "auth"
    return "overloaded" if status in {502, 503, 504} else "upstream"
