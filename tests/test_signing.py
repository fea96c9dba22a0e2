"""Signatures against vectors that other libraries made."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.fakes.vertex import private_key, service_account, unpadded
from tests.pictures import data, media
from translators.base import Call, base64, body
from translators.signing import (
    aws_authorization,
    chained,
    jwt_hs256,
    jwt_rs256,
    liblib_signature,
    service_account_assertion,
    sha256_of,
    tc3_authorization,
    volcengine_authorization,
)

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


def test_hs256_is_klings_own_to_the_byte() -> None:
    token = jwt_hs256({"iss": "ak-test", "exp": 1700001800, "nbf": 1699999995}, "sk-test")
    head, claims, signature = token.split(".")
    assert (head, claims) == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        "eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzAwMDAxODAwLCJuYmYiOjE2OTk5OTk5OTV9",
    )
    assert signature == "tMljlG8Xy1G8AKj5WkEZRcRIADvbH0FP6wgzpwHAfs4"
    digest = chained(b"sk-test", f"{head}.{claims}").hex()
    assert digest == "b4c963946f17cb51bc00a8f95a411945c448003bdb1f414feb0833a701c07ece"


TC3 = ("AKIDEXAMPLE0000000000000000000000000", "SecretKeyExample0000000000000000")


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ('{"JobId": "1253-1-0"}', "d62349a8a56c2b84829374fe5daee5253b483cd7943ccdfb35e82d293b5007ef"),
        ('{"JobId":"1253-1-0"}', "760cbee8b49bc9047b0c0512bd78b5a79e8a56b7763f444c4d9a3a19e19d5df9"),
        (
            '{"Prompt": "a cat", "RspImgType": "url"}',
            "3222c52ecf77a7110c1a7ef7223ad2ae46a005a7beabdfd7ab4ca6f5ee0595d9",
        ),
        (
            '{"Prompt": "a cat", "Resolution": "1024:1024", "Num": 1, "Revise": 0, "Seed": 7, "LogoAdd": 0}',
            "71430bbc7600d762591db7eb99f66817ac6b0b4e2dd761feb1d171cced903325",
        ),
    ],
)
def test_tc3_is_tencents_own(text: str, signature: str) -> None:
    host = "hunyuan.tencentcloudapi.com"
    digest = sha256_of([text.encode()])
    assert tc3_authorization(TC3, "hunyuan", host, "application/json", digest, 1700000000) == (
        f"TC3-HMAC-SHA256 Credential={TC3[0]}/2023-11-14/hunyuan/tc3_request, SignedHeaders=content-type;host, "
        f"Signature={signature}"
    )


def test_tc3_on_its_way() -> None:
    digest = sha256_of([b'{"JobId": "1253-1-0"}'])
    assert digest == "fdce4d161a94e774ad9686980cc6b395b0bfe0b6437699be5741c0ab2fa61ba4"
    key = chained(f"TC3{TC3[1]}".encode(), "2023-11-14", "hunyuan", "tc3_request").hex()
    assert key == "1dc0a6a33d260254cf1fd6d785184bd0ec854be54dec294ceb970138ddcb4c0f"


VOLCENGINE = ("AKLTexampleaccesskeyid", "c2VjcmV0LWtleS1mb3ItdGVzdHM=")
SUBMIT = '{"req_key":"jimeng_t2i_v40","prompt":"a red panda","force_single":true}'
POLL = r'{"req_key":"jimeng_t2i_v40","task_id":"7392616336519610409","req_json":"{\"return_url\":true}"}'
PLAIN = "content-type;host;x-content-sha256;x-date"


@pytest.mark.parametrize(
    ("action", "text", "more", "names", "signature"),
    [
        (
            "CVSync2AsyncSubmitTask",
            SUBMIT,
            {},
            PLAIN,
            "6eb1de52481676a8d1899577d282d822a521f6f9a614de028076c66c912d664b",
        ),
        ("CVSync2AsyncGetResult", POLL, {}, PLAIN, "c473921c7f5490b344136b70691df65a0d2a7e8ac38ca4f8f9acd20b2c6d3578"),
        (
            "CVSync2AsyncSubmitTask",
            SUBMIT,
            {"X-Security-Token": "STSexampletoken"},
            f"{PLAIN};x-security-token",
            "5c03f414a024632e0b44355ee4bd4e60ffae56341484dea73a3bb5586a0efd79",
        ),
    ],
    ids=["submit", "poll", "temporary"],
)
def test_volcengines_signature_is_its_own(
    action: str, text: str, more: dict[str, str], names: str, signature: str
) -> None:
    headers = {
        "Content-Type": "application/json",
        "Host": "visual.volcengineapi.com",
        "X-Date": "20261120T120000Z",
        "X-Content-Sha256": sha256_of([text.encode()]),
        **more,
    }
    query = {"Version": "2022-08-31", "Action": action}  # sorted by the signer
    assert volcengine_authorization(VOLCENGINE, ("cn-north-1", "cv"), query, headers) == (
        f"HMAC-SHA256 Credential={VOLCENGINE[0]}/20261120/cn-north-1/cv/request, SignedHeaders={names}, "
        f"Signature={signature}"
    )


def test_volcengines_key() -> None:
    key = chained(VOLCENGINE[1].encode(), "20261120", "cn-north-1", "cv", "request").hex()
    assert key == "76efb9c994afc43cd68f81b01c933208127c81560e17bbf187e8647c24efe7d7"


def test_what_is_hashed_is_what_is_sent() -> None:
    call = Call(path="/", json={"image": base64(media("photo.jpg")), "prompt": "x"})
    sent = {"image": b64encode(data("photo.jpg")).decode(), "prompt": "x"}
    assert sha256_of(body(call)) == sha256_of([json.dumps(sent, separators=(",", ":")).encode()])


AWS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
INVOKE = (
    '{"taskType":"TEXT_IMAGE","textToImageParams":{"text":"a red fox"},'
    '"imageGenerationConfig":{"numberOfImages":1,"width":1024,"height":1024}}'
)
ENCODED, BARE = "/model/amazon.nova-canvas-v1%3A0/invoke", "/model/amazon.nova-canvas-v1:0/invoke"


@pytest.mark.parametrize(
    ("path", "token", "signature"),
    [
        (ENCODED, "", "49fcc3acdba02e7f7cccaa9d81d4a9e668a2c8158cd530bdb0ea6b2a93780f8c"),
        (ENCODED, "SESSIONTOKENEXAMPLE", "77c83fd369598c7efe48b251b659fec254259ae8da91c1b36a7e0fa5bd11f47c"),
        (BARE, "", "00c86601343c55dd0a936192267b039de2fa768bc58754ef07cbe9c20f2cbbc3"),
        (BARE, "SESSIONTOKENEXAMPLE", "8b1b20b607141635a13b330a0d16ef3eee682fddc37d8c5945d8da1d32de94be"),
    ],
    ids=["encoded", "encoded-temporary", "bare", "bare-temporary"],
)
def test_aws_signature_is_botocores(path: str, token: str, signature: str) -> None:
    digest = sha256_of([INVOKE.encode()])
    assert digest == "5d4e84cfeba4a39c48ede86b5c331798ae6dad2e5480ea784f6d00593969a0b3"
    headers = {
        "Host": "bedrock-runtime.us-east-1.amazonaws.com",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "X-Amz-Date": "20261120T120000Z",
        **({"X-Amz-Security-Token": token} if token else {}),
    }
    names = "accept;content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert aws_authorization(AWS, ("us-east-1", "bedrock"), path, headers, digest) == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/us-east-1/bedrock/aws4_request, SignedHeaders={names}, "
        f"Signature={signature}"
    )


@pytest.mark.parametrize(
    ("path", "timestamp", "nonce", "signature"),
    [
        ("/api/generate/webui/text2img", "1725458584295", "q8NBwa2a1T", "LpXEtfaa6Bx5ih5IX-IQmE2nyhk"),
        ("/api/generate/webui/text2img/ultra", "1790000000000", "a1B2c3D4e5", "Caa_zl-3GFuupdiV-aJNRC7mqL8"),
        ("/api/generate/webui/status", "1790000000000", "a1B2c3D4e5", "pwUTc1hmRRKDVUKYPLEljkp11NQ"),
        ("/api/generate/upload/signature", "1790000000000", "a1B2c3D4e5", "eNkUBmHeRtYZ0duW4FQ0shaqkzA"),
    ],
)
def test_liblibs_signature(path: str, timestamp: str, nonce: str, signature: str) -> None:
    assert liblib_signature("KppKsn7ezZxhi6lIDjbo7YyVYzanSu2d", path, timestamp, nonce) == signature
