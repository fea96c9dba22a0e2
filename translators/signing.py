"""Signatures, pure: clock and keys are arguments, so that each has its test vector."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from translators.base import Inline, Piece

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


def jwt_hs256(claims: Mapping[str, Any], secret: str) -> str:
    """A JWT signed with HMAC and SHA-256; members keep their order."""
    header = b'{"alg":"HS256","typ":"JWT"}'
    text = f"{base64url(header)}.{base64url(json.dumps(claims, separators=(',', ':')).encode())}"
    return f"{text}.{base64url(chained(secret.encode(), text))}"


def sha256_of(pieces: Iterable[Piece]) -> str:
    """The digest, in lower case hex, of the very bytes that a body is sent as."""
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, Inline):
            for chunk in piece.media.blob.base64():
                digest.update(chunk)
        else:
            digest.update(piece)
    return digest.hexdigest()


def chained(key: bytes, *texts: str) -> bytes:
    """HMAC-SHA256 of each text, keyed with the one before: so a secret is narrowed to a day and a service."""
    for text in texts:
        key = hmac.digest(key, text.encode(), "sha256")
    return key


def digested(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tc3_authorization(
    access_key: tuple[str, str], service: str, host: str, content_type: str, payload_hash: str, timestamp: int
) -> str:
    """Tencent Cloud's TC3-HMAC-SHA256 over `POST /`: the value of `Authorization`.

    `access_key` is SecretId and SecretKey, `timestamp` that of `X-TC-Timestamp`, in seconds since 1970. The content
    type is signed exactly as it is sent.
    """
    secret_id, secret_key = access_key
    canonical = f"POST\n/\n\ncontent-type:{content_type}\nhost:{host}\n\ncontent-type;host\n{payload_hash}"
    date = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
    scope = f"{date}/{service}/tc3_request"
    text = f"TC3-HMAC-SHA256\n{timestamp}\n{scope}\n{digested(canonical)}"
    signature = chained(f"TC3{secret_key}".encode(), date, service, "tc3_request", text).hex()
    return f"TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}"


def volcengine_authorization(
    access_key: tuple[str, str], scope: tuple[str, str], query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Volcengine's HMAC-SHA256 over `POST /`: the value of `Authorization`.

    Near to AWS's fourth version, but the secret has no prefix and the scope ends in `request`. `scope` is region and
    service; `headers` are all that are signed, `X-Date` and `X-Content-Sha256` among them.
    """
    key_id, secret = access_key
    plain = {name.lower(): value.strip() for name, value in headers.items()}
    names = ";".join(sorted(plain))
    pairs = "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))
    lines = "".join(f"{name}:{plain[name]}\n" for name in sorted(plain))
    moment = plain["x-date"]
    canonical = f"POST\n/\n{pairs}\n{lines}\n{names}\n{plain['x-content-sha256']}"
    parts = (moment[:8], *scope, "request")
    text = f"HMAC-SHA256\n{moment}\n{'/'.join(parts)}\n{digested(canonical)}"
    signature = chained(secret.encode(), *parts, text).hex()
    return f"HMAC-SHA256 Credential={key_id}/{'/'.join(parts)}, SignedHeaders={names}, Signature={signature}"


def aws_authorization(
    access_key: tuple[str, str], scope: tuple[str, str], path: str, headers: Mapping[str, str], payload_hash: str
) -> str:
    """AWS's Signature Version 4 over a POST without query: the value of `Authorization`.

    `scope` is region and service; `headers` are all that are signed, `Host` and `X-Amz-Date` among them. `path` is
    the one that is sent, and is encoded once more: a colon as `%3A`, but `%3A` as `%253A`.
    """
    key_id, secret = access_key
    plain = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    names = ";".join(sorted(plain))
    lines = "".join(f"{name}:{plain[name]}\n" for name in sorted(plain))
    moment = plain["x-amz-date"]
    canonical = f"POST\n{quote(path, safe='/-_.~')}\n\n{lines}\n{names}\n{payload_hash}"
    parts = (moment[:8], *scope, "aws4_request")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{'/'.join(parts)}\n{digested(canonical)}"
    signature = chained(f"AWS4{secret}".encode(), *parts, text).hex()
    return f"AWS4-HMAC-SHA256 Credential={key_id}/{'/'.join(parts)}, SignedHeaders={names}, Signature={signature}"


def liblib_signature(secret_key: str, path: str, timestamp: str, nonce: str) -> str:
    """LiblibAI's signature, in URL-safe base64: of the path alone, neither host nor query nor body."""
    text = f"{path}&{timestamp}&{nonce}"
    return base64url(hmac.digest(secret_key.encode(), text.encode(), "sha1"))
