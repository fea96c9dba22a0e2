"""How a webhook is signed: Standard Webhooks, as OpenAI's do it.

    webhook-id: evt_…
    webhook-timestamp: 1790000000                    seconds since 1970, of this try
    webhook-signature: v1,BASE64 v1,BASE64           HMAC-SHA256(secret, "id.timestamp.body"), one for each secret

Secrets are derived from the server's own and never kept. https://github.com/standard-webhooks/standard-webhooks
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.config import Config, Webhook  # which is checked with what stands here

BEGINNING = "whsec_"
LEAST = 16  # bytes of a secret
OVERLAP = 86_400_000  # milliseconds for which the secret before a rotation signs too


def of(settings: Config, secret: bytes, key: str, version: int | None, rotated: int | None, now: int) -> list[str]:
    """The secrets that sign for a key at a time in milliseconds, the newest first; `secret` is the server's.

    Those of the configuration, or else derived: of a key with a row by its `version`, of any other the first.
    """
    if own := fixed(settings, key):
        return [each.key for each in own.secrets]
    if version is None:
        return [derived(secret, key, 1)]
    both = version > 1 and rotated is not None and now < rotated + OVERLAP
    return [derived(secret, key, each) for each in ((version, version - 1) if both else (version,))]


def fixed(settings: Config, key: str) -> Webhook | None:
    """What the configuration says of a key's webhook, where it gives secrets."""
    found = (each.webhook for each in settings.auth.keys if f"config:{each.name}" == key)
    return next((own for own in found if own.secrets), None)


def derived(secret: bytes, key: str, version: int) -> str:
    """A secret of 32 bytes, as clients take it. The beginning keeps it apart from all else that ours is for."""
    return BEGINNING + b64encode(hmac.digest(secret, f"webhook\n{key}\n{version}".encode(), "sha256")).decode()


def headers(secrets: Sequence[str], id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a try at a time in seconds."""
    signed = b".".join((id.encode(), str(at).encode(), body))
    marks = (b64encode(hmac.digest(raw(secret), signed, "sha256")).decode() for secret in secrets)
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": " ".join(f"v1,{m}" for m in marks)}


def raw(secret: str) -> bytes:
    """The bytes of a secret. Raises `ValueError` where it is written otherwise: libraries disagree on what that is."""
    try:
        if secret.startswith(BEGINNING):
            return b64decode(secret.removeprefix(BEGINNING), validate=True)
    except binascii.Error:
        pass
    raise ValueError(f"expected {BEGINNING} and base64 behind it")
