"""Signatures against vectors that other libraries made."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.fakes.vertex import private_key, service_account, unpadded
from translators.signing import jwt_rs256, service_account_assertion

NOW = 1795176000
HEADER = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJSUzI1NiIsICJraWQiOiAiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2NyJ9"
CLAIMS = (
    "eyJpYXQiOiAxNzk1MTc2MDAwLCAiZXhwIjogMTc5NTE3OTYwMCwgImlzcyI6ICJnd0BkZW1vLXByb2plY3QuaWFtLmdzZXJ2aWNlYWNjb3VudC5j"
    "b20iLCAiYXVkIjogImh0dHBzOi8vb2F1dGgyLmdvb2dsZWFwaXMuY29tL3Rva2VuIiwgInNjb3BlIjogImh0dHBzOi8vd3d3Lmdvb2dsZWFwaXMu"
    "Y29tL2F1dGgvY2xvdWQtcGxhdGZvcm0ifQ"
)
SIGNATURE = (
    "BhxDKpYK69PG2kDZqloynclN4tugMr82qxwDt1-HKjK4WROeY9uRVK7r0rL8tPgCfw6Gvv83OViMQj2swYjarKZUJ2rjfBLb4mWYinhRa6eRb6BA"
    "asC_bwp6sn4uQSsYg5h_WxD9kktRt0RgI2hzIXmSwDckD4WUo0y6NW-4dEOyMnVy49NQd2WpQ_90ASzFOTp2bpN_FpgjtQHAI1kfvXYlhw4YKASa"
    "-Ya-M6hSiPqzO1DadSDLilYSaoCeT0Loq829Q3_-9DRqo_tZChdw8A9UbHrjBf9skJppYpyNVAGbyKzNGGsirEzis6qiAeyE1tZa_XqfQjEA64Se"
    "KPPrww"
)
DIGEST = "0bf8a74d28a76562fce8e95036f83a0e9d188bb981ca57b5183a17cd57618b60"


def test_service_account_assertion_is_googles_own_to_the_byte() -> None:
    made = service_account_assertion(service_account("https://oauth2.googleapis.com/token"), NOW)
    assert made == f"{HEADER}.{CLAIMS}.{SIGNATURE}"
    assert hashlib.sha256(f"{HEADER}.{CLAIMS}".encode()).hexdigest() == DIGEST


@pytest.mark.parametrize(("said", "meant"), [("", "https://www.googleapis.com/auth/cloud-platform"), ("a b", "a b")])
def test_scope_of_ones_own(said: str, meant: str) -> None:
    account = service_account("https://t/token") | {"scope": said}
    assert json.loads(unpadded(service_account_assertion(account, NOW).split(".")[1]))["scope"] == meant


def test_a_key_without_id_is_not_named() -> None:
    account = service_account("https://t/token")
    del account["private_key_id"]
    assert json.loads(unpadded(service_account_assertion(account, NOW).split(".")[0])) == {"typ": "JWT", "alg": "RS256"}


@pytest.mark.parametrize(
    "pem",
    [
        "no key",
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
        private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")).decode(),
    ],
    ids=["no-pem", "elliptic-curve", "encrypted"],
)
def test_unusable_keys_are_value_errors(pem: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # cryptography's own text is not ours to pin
        jwt_rs256({}, {}, pem)
