"""DashScope's temporary storage, for clips and large pictures: fetch a policy, post the file to it.

    GET  /uploads?action=getPolicy&model=…  -> {"data": {"policy", "signature", "upload_dir", "upload_host", …}}
    POST {upload_host}  a form, without the credential; the file is then oss://{key}

One policy serves all pictures of a job. What is stored already stands in the call's `state`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from translators.base import Call, Fault, Job, Media, Part, Reply

INLINE = 7_000_000
"""Bytes of a picture that may stand in a request: a string may have 10 MiB there, in base64."""
REGION = "cn-beijing"
"""The only one with such a storage."""
RESOLVE = {"X-DashScope-OssResourceResolve": "enable"}


class Policy(msgspec.Struct, frozen=True):
    """Leave to upload, for five minutes."""

    policy: str
    signature: str
    upload_dir: str
    upload_host: str
    oss_access_key_id: str
    x_oss_object_acl: str = "private"
    x_oss_forbid_overwrite: str = "true"


class Granted(msgspec.Struct, frozen=True):
    """The answer that holds it."""

    data: Policy


class State(msgspec.Struct, frozen=True):
    """Between two uploads: the leave, and the addresses of the first so many large pictures."""

    policy: Policy
    stored: tuple[str, ...] = ()


def large(pictures: tuple[Media, ...]) -> list[Media]:
    """Those that have to be uploaded."""
    return [picture for picture in pictures if not picture.url and picture.blob.length > INLINE]


def ask(job: Job) -> Call:
    """The call for leave to upload."""
    region = job.site.get("region") or REGION
    if region != REGION:
        raise Fault(
            "invalid",
            f"A picture has more than {INLINE} bytes, and DashScope stores such pictures in {REGION} only, not in "
            f"{region}. Send a smaller one.",
            code="image_too_large",
            param="image",
        )
    query = {"action": "getPolicy", "model": job.model}
    return Call(method="GET", path="/uploads", query=query, repeatable=True)


def is_asking(call: Call) -> bool:
    return call.path == "/uploads"


def granted(reply: Reply) -> State:
    return State(reply.read(Granted).data)


def resumed(call: Call) -> State:
    """Where the job stands once the upload of `call` is done."""
    state = msgspec.json.decode(call.state, type=State)
    key = next(str(part.value) for part in call.form if part.name == "key")
    return msgspec.structs.replace(state, stored=(*state.stored, f"oss://{key}"))


def post(picture: Media, state: State) -> Call:
    """The upload of one picture. Its name is its digest: sent twice, it is stored once. The file has to come last."""
    leave = state.policy
    digest = hashlib.sha256()
    for piece in picture.blob.decoded():
        digest.update(piece)
    fields: Mapping[str, str] = {
        "OSSAccessKeyId": leave.oss_access_key_id,
        "Signature": leave.signature,
        "policy": leave.policy,
        "key": f"{leave.upload_dir}/{digest.hexdigest()}.{picture.type.partition('/')[2]}",
        "x-oss-object-acl": leave.x_oss_object_acl,
        "x-oss-forbid-overwrite": leave.x_oss_forbid_overwrite,
        "success_action_status": "200",
    }
    return Call(
        path=leave.upload_host,
        form=(*(Part(name, value) for name, value in fields.items()), Part("file", picture)),
        anonymous=True,
        repeatable=True,
        state=msgspec.json.encode(state).decode(),
    )
