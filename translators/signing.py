"""Signatures, pure: clock and keys are arguments, so that each has its test vector."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME = 3600  # seconds; the longest that Google accepts


def service_account_assertion(account: Mapping[str, str], now: int) -> str:
    """The JWT that a Google service account trades for an access token, from its key file's members.

    `now` is in seconds since 1970. Raises `KeyError` for a missing member, `ValueError` for an unusable key.
    """
    header = {"typ": "JWT", "alg": "RS256"}
    if key_id := account.get("private_key_id"):
        header["kid"] = key_id
    claims = {
        "iat": now,
        "exp": now + LIFETIME,
        "iss": account["client_email"],
        "aud": account["token_uri"],
        "scope": account.get("scope") or GOOGLE_SCOPE,
    }
    return jwt_rs256(header, claims, account["private_key"])


def jwt_rs256(header: Mapping[str, Any], claims: Mapping[str, Any], private_key_pem: str) -> str:
    """A JWT signed with RSASSA-PKCS1-v1_5 and SHA-256; members keep their order.

    Raises `ValueError` where the key is not an unencrypted RSA private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is encrypted or of an unknown kind") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the key is not an RSA key")
    text = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims).encode())}"
    return f"{text}.{base64url(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def base64url(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return urlsafe_b64encode(data).decode().rstrip("=")
