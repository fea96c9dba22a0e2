"""Vertex AI, strict, with the token server that its service account asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec
import pybase64
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.base import GOOD_KEY, WRONG_KEY, Seen
from tests.fakes.gemini import Exact, Gemini, OutputOptions, Refused, body_of, decoded, require
from translators import vertex as wire

JWK = {  # the public test key of RFC 7515, appendix A.2
    "e": "AQAB",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
    "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
    "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"
    "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46su"
    "i395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4"
    "qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB"
    "4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8"
    "cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t"
    "62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
}
EMAIL = "gw@demo-project.iam.gserviceaccount.com"
KEY_ID = "0123456789abcdef0123456789abcdef01234567"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def unpadded(text: str) -> bytes:
    return pybase64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def private_key(jwk: Mapping[str, str] = JWK) -> rsa.RSAPrivateKey:
    e, n, d, p, q = (int.from_bytes(unpadded(jwk[name])) for name in "endpq")
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, n)).private_key()


def private_key_pem() -> str:
    return private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def service_account(token_uri: str, email: str = EMAIL) -> dict[str, str]:
    """A key file as Google hands it out."""
    return {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": KEY_ID,
        "private_key": private_key_pem(),
        "client_email": email,
        "token_uri": token_uri,
    }


class Encoded(Exact):
    bytes_base64_encoded: str
    mime_type: Literal["image/png", "image/jpeg"]


class MaskConfig(Exact):
    mask_mode: Literal[
        "MASK_MODE_USER_PROVIDED", "MASK_MODE_BACKGROUND", "MASK_MODE_FOREGROUND", "MASK_MODE_SEMANTIC",
        "MASK_MODE_DEFAULT",
    ]  # fmt: skip
    dilation: float | None = None


class Subject(Exact):
    subject_type: Literal["SUBJECT_TYPE_PERSON", "SUBJECT_TYPE_ANIMAL", "SUBJECT_TYPE_PRODUCT", "SUBJECT_TYPE_DEFAULT"]
    subject_description: str


class Style(Exact):
    style_description: str


class Reference(Exact):
    reference_type: Literal[
        "REFERENCE_TYPE_RAW", "REFERENCE_TYPE_MASK", "REFERENCE_TYPE_SUBJECT", "REFERENCE_TYPE_STYLE"
    ]
    reference_id: int
    reference_image: Encoded | None = None
    mask_image_config: MaskConfig | None = None
    subject_image_config: Subject | None = None
    style_image_config: Style | None = None


class Instance(Exact):
    prompt: str | None = None
    reference_images: tuple[Reference, ...] = ()
    image: Encoded | None = None


class EditConfig(Exact):
    base_steps: int


class UpscaleConfig(Exact):
    upscale_factor: Literal["x2", "x3", "x4"]


class Parameters(Exact):
    sample_count: int = 4
    aspect_ratio: Literal["1:1", "3:4", "4:3", "9:16", "16:9"] = "1:1"
    sample_image_size: Literal["1K", "2K"] = "1K"
    edit_mode: Literal[
        "EDIT_MODE_INPAINT_INSERTION", "EDIT_MODE_INPAINT_REMOVAL", "EDIT_MODE_OUTPAINT", "EDIT_MODE_BGSWAP",
        "EDIT_MODE_DEFAULT", "EDIT_MODE_CONTROLLED_EDITING", "EDIT_MODE_STYLE", "EDIT_MODE_PRODUCT_IMAGE",
    ] | None = None  # fmt: skip
    edit_config: EditConfig | None = None
    mode: Literal["upscale"] | None = None
    upscale_config: UpscaleConfig | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    safety_setting: Literal["BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE"] | None = (
        None
    )
    person_generation: Literal["dont_allow", "allow_adult", "allow_all", "ALLOW_ADULT", "ALLOW_ALL"] | None = None
    include_rai_reason: bool = False
    include_safety_attributes: bool = False
    language: str | None = None
    output_options: OutputOptions = msgspec.field(default_factory=OutputOptions)
    add_watermark: bool = True
    enhance_prompt: bool | None = None


class Predict(Exact):
    instances: list[Instance]
    parameters: Parameters
    labels: dict[str, str] | None = None


@dataclass
class Vertex(Gemini):
    """Projects with a token, express mode with a key, and `POST /token`."""

    name: ClassVar[str] = "vertex"
    masks: ClassVar[str | None] = "imagen-3.0-capability-001"
    on_vertex: ClassVar[bool] = True

    clock: Callable[[], float] = time.time
    lifetime: int = 3599
    tokens: list[str] = field(default_factory=list)  # that were given out, the oldest first

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        account = service_account(f"{self.url}/token", f"{WRONG_KEY}@x" if key == WRONG_KEY else EMAIL)
        base = f"{self.url}/v1"
        return {"project": "demo-project", "location": "global", "credentials": account, "base_url": base}

    def pays(self, seen: Seen) -> bool:
        return seen.path != "/token"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/token", self.token),
            web.post("/v1/publishers/google/models/{model}:{verb}", self.post),
            web.post("/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:{verb}", self.post),
        ]

    async def token(self, request: web.Request) -> web.Response:
        """RFC 7523: the assertion is believed for its signature, and only for what it says."""
        form = await request.post()
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        try:
            header, claims, signature = str(form["assertion"]).split(".")
            signed = f"{header}.{claims}".encode()
            private_key().public_key().verify(unpadded(signature), signed, padding.PKCS1v15(), hashes.SHA256())
            self.believe(msgspec.json.decode(unpadded(header)), msgspec.json.decode(unpadded(claims)))
        except (KeyError, ValueError, AssertionError, InvalidSignature):
            refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return web.json_response(refused, status=400)
        self.tokens.append(f"ya29.{len(self.tokens)}")
        return web.json_response({"access_token": self.tokens[-1], "expires_in": self.lifetime, "token_type": "Bearer"})

    def believe(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        now = self.clock()
        assert header == {"typ": "JWT", "alg": "RS256", "kid": KEY_ID}
        assert claims.keys() == {"iat", "exp", "iss", "aud", "scope"}
        assert claims["iat"] - 60 <= now < claims["exp"] <= claims["iat"] + 3600
        assert (claims["iss"], claims["aud"], claims["scope"]) == (EMAIL, f"{self.url}/token", SCOPE)

    def authorize(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-goog-api-key")
        if "project" not in request.match_info:
            if key != GOOD_KEY or token:
                raise Refused(401, "API key not valid. Please pass a valid API key.")
            return
        if key or token not in self.tokens:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED"}
            raise Refused(401, "Request had invalid authentication credentials.", reason)
        if request.match_info["project"] != "demo-project":
            raise Refused(403, "Permission denied on resource project.")
        imagen = request.match_info["model"].startswith("imagen")
        if request.match_info["location"] != ("us-central1" if imagen else "global"):
            raise Refused(404, "Publisher Model was not found or your project does not have access to it.")

    def predict(self, data: bytes, model: str, verb: str) -> web.Response:
        if model not in wire.MODELS or verb != "predict":
            raise Refused(404, f"Publisher Model {model} was not found.")
        body: Predict = body_of(data, Predict)
        given = body.parameters
        require(1 <= given.sample_count <= 4, "sampleCount must be 1 to 4.")
        require(given.seed is None or not given.add_watermark, "Seed is not supported when watermark is enabled.")
        require(len(body.instances) == 1, "One instance is supported.")
        instance = body.instances[0]
        if model == "imagen-4.0-upscale-preview":
            size = upscaled(instance, given)
        elif model == "imagen-3.0-capability-001":
            size = edited(instance, given)
        else:
            require(instance.prompt is not None and not instance.reference_images, "A prompt alone is supported.")
            table = wire.MODELS[model].pixels_of
            ratio = given.aspect_ratio
            size = table[ratio] if ratio in table else table[f"{ratio}@{given.sample_image_size}"]
        return self.predictions(instance.prompt or "", given.sample_count, size, given.output_options)


def measured(image: Encoded | None) -> tuple[int, int]:
    if image is None:
        raise Refused(400, "An image is missing.")
    return decoded(image.bytes_base64_encoded, image.mime_type)


def upscaled(instance: Instance, given: Parameters) -> tuple[int, int]:
    require(given.mode == "upscale" and given.upscale_config is not None, "upscaleConfig is missing.")
    assert given.upscale_config
    width, height = measured(instance.image)
    factor = int(given.upscale_config.upscale_factor[1:])
    return width * factor, height * factor


def edited(instance: Instance, given: Parameters) -> tuple[int, int]:
    kinds = [one.reference_type.removeprefix("REFERENCE_TYPE_") for one in instance.reference_images]
    require(instance.prompt is not None and bool(kinds), "prompt and referenceImages are required.")
    first = instance.reference_images[0]
    size = measured(first.reference_image)
    for one in instance.reference_images[1:]:
        if one.reference_image:
            same = measured(one.reference_image) == size
            require(same or not one.mask_image_config, "The mask must be of the image's size.")
    if set(kinds) <= {"SUBJECT", "STYLE"}:
        require(given.edit_mode is None, "editMode is not supported with these references.")
        configured = (one.subject_image_config or one.style_image_config for one in instance.reference_images)
        require(all(configured), "A reference lacks its config.")
        return 1024, 1024
    require(kinds in (["RAW"], ["RAW", "MASK"]) and given.edit_mode is not None, "One image, and at most one mask.")
    if kinds == ["RAW", "MASK"]:
        config = instance.reference_images[1].mask_image_config
        if config is None:
            raise Refused(400, "maskImageConfig is required.")
        own = config.mask_mode == "MASK_MODE_USER_PROVIDED"
        require(own == bool(instance.reference_images[1].reference_image), "A mask of one's own needs a picture.")
    return size
