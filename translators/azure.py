"""Azure OpenAI: OpenAI's bodies at a resource of one's own, for a deployment instead of a model.

    dated: POST {endpoint}/openai/deployments/{deployment}/images/generations?api-version=2025-04-01-preview
    v1:    POST {endpoint}/openai/v1/images/generations         with the deployment as `model`

Which of the two is decided by the setting `api_version`: a date, or none (or `preview`, `latest`, `v1`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from translators import openai, shapes
from translators.base import (
    Call,
    Caps,
    FaultKind,
    Job,
    Provider,
    Reply,
    Secret,
    Stamp,
    Step,
    bearer,
    header,
)
from translators.shapes import event, step

__all__ = ["MODELS", "PROVIDER", "base", "caps", "check", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="Azure OpenAI",
    env={"api_key": "AZURE_OPENAI_API_KEY", "endpoint": "AZURE_OPENAI_ENDPOINT", "api_version": "OPENAI_API_VERSION"},
    settings=frozenset({"endpoint", "api_version"}),
    credential="key-or-token",
    grant={
        "token_url": "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        "scope": "https://cognitiveservices.azure.com/.default",
    },
    docs="https://learn.microsoft.com/azure/ai-foundry/openai/how-to/dall-e",
)

NOTE = "The name of a deployment stands in its place; one that begins with this id is taken for this model."


def hosted(model: Caps, ends: str) -> Caps:
    """OpenAI's model as Azure has it: no WebP either way, and nothing that only OpenAI documents.

    `safety_identifier` is left out because nobody says that it is taken, and what Azure does not know it refuses;
    `user` does the same there.
    """
    return replace(
        model,
        formats=("png", "jpeg"),
        input_types=("image/png", "image/jpeg"),
        params=model.params - {"safety_identifier"},
        ends=ends,
        note=NOTE,
    )


# Markup and the highest qualities are not documented for 2.5, nor is transparency for 2; both are OpenAI's models
# unchanged, so they are asked, and say themselves what they refuse.
MODELS: Mapping[str, Caps] = {
    "gpt-image-2.5-sunburst": hosted(openai.GPT_25, "2027-09-09"),
    "gpt-image-2.5-flare": hosted(openai.GPT_25, "2027-09-09"),
    "gpt-image-2": hosted(openai.GPT_2, "2027-10-21"),
    "gpt-image-1.5": hosted(openai.GPT_15, "2026-12-16"),
    "gpt-image-1-mini": hosted(openai.MINI, "2027-04-07"),
}

UNKNOWN = replace(
    MODELS["gpt-image-1-mini"], prices=(), ends=None, note="A deployment of a model that its name does not tell."
)
"""What every model behind a deployment can do; the configuration may say more of it."""

CODES: dict[str, FaultKind] = openai.CODES | {
    "PermissionDenied": "permission",
    "RateLimitReached": "rate",
    "DeploymentNotFound": "missing",
    "ModelDeprecated": "missing",
    "contentFilter": "policy",
    "content_filter": "policy",
    "ResponsibleAIPolicyViolation": "policy",
    "InternalServerError": "upstream",
}

TEXTS: shapes.Texts = (
    *openai.TEXTS,
    (re.compile(r"deployment\b.{1,200}\bdoes not exist", re.IGNORECASE), "missing", "model_not_found"),
    (re.compile(r"experiencing high demand", re.IGNORECASE), "overloaded", None),
)


def base(site: Mapping[str, str]) -> str:
    """The resource, however much of an address was pasted: its path is cut where `/openai` begins."""
    parts = urlsplit(site.get("base_url") or site.get("endpoint") or "")
    path = re.split(r"/openai(?:/|$)", parts.path)[0].rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}" if parts.netloc else ""


def caps(model: str) -> Caps:
    """Deployments have any name; most bear their model's."""
    known = [name for name in MODELS if model.startswith(name)]
    return MODELS[max(known, key=len)] if known else UNKNOWN


def start(job: Job) -> Step:
    version = job.site.get("api_version", "")
    query = {"api-version": version} if version else {}
    if version[:1].isdigit():
        # Some models refuse a body that names them a second time.
        return openai.sent(job, f"/openai/deployments/{quote(job.model, safe='')}/images", model=False, query=query)
    return openai.sent(job, "/openai/v1/images", query=query)


def check(reply: Reply) -> None:
    shapes.check(reply, CODES, TEXTS)


def sign(call: Call, secret: Secret, stamp: Stamp) -> Call:
    """The resource's key has a header of its own; as a bearer only a token is taken everywhere."""
    return bearer(call, secret, stamp) if secret.kind == "bearer" else header(call, "api-key", secret.key)
