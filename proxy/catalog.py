"""What is served: providers from the configuration, their models, and the aliases that lead to them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from translators.base import Caps, FaultKind, Secret, Translator


class Credential(msgspec.Struct, frozen=True):
    """One way into a provider's account: a ready secret, or what a token is got with."""

    name: str  # "bfl#1": for logs and cool-downs; never the secret
    secret: Secret
    grant: Mapping[
        str, str
    ] = {}  # OAuth: {"grant": "jwt" | "client_credentials", "token_url": …, …}; empty: `secret` as it is

    def __repr__(self) -> str:
        return f"Credential({self.name!r})"


class Upstream(msgspec.Struct, frozen=True, eq=False):
    """One configured provider."""

    name: str  # its id in the configuration: "openai", "lab"
    translator: Translator
    base: str  # no slash at its end
    site: Mapping[str, str]
    credentials: tuple[Credential, ...]
    trusted: bool = False  # `base_url` was configured: its host may be private, and be polled and fetched from
    connect_seconds: float = 10.0
    first_byte_seconds: float = 300.0
    job_seconds: float = 600.0
    concurrency: int = 0  # calls at once, 0: no bound


class Target(msgspec.Struct, frozen=True, eq=False):
    """One model at one provider."""

    upstream: Upstream
    model: str  # the provider's own id
    caps: Caps
    weight: float = 1.0

    @property
    def id(self) -> str:
        """`provider/model`."""
        return f"{self.upstream.name}/{self.model}"


class Route(msgspec.Struct, frozen=True, eq=False):
    """Where a model name leads: one target, or an alias's, in the order of the configuration."""

    name: str  # as the client wrote it
    targets: tuple[Target, ...]
    alias: str | None = None
    fallback_on: frozenset[FaultKind] = frozenset(
        {"overloaded", "rate", "timeout", "upstream", "empty", "auth", "permission", "quota", "missing"}
    )
    hosting: str = "store"  # "passthrough": `url` answers may be the provider's own links
