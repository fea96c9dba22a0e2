"""/v1/files, as OpenAI has it: what clients upload to use in several requests. Each key has files of its own."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import unquote, urlsplit

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from msgspec import Meta

from proxy import fetch, forms, invalid
from proxy.answer import Answer
from proxy.api import query
from proxy.api.body import arriving, check_announced, text
from proxy.api.calling import calling
from proxy.api.schema import Envelope
from proxy.api.serving import Served, answer
from proxy.ask import Link
from proxy.gateway import Gateway
from proxy.http import Refused
from proxy.keys import Caller
from proxy.state.files import EXTENSIONS
from proxy.state.uploads import Upload, type_of
from translators.base import Blob, Fault

Purpose: TypeAlias = Literal["vision", "user_data"]
Order: TypeAlias = Literal["asc", "desc"]
Shape = TypeVar("Shape")

MOST = 10_000  # of one page
AROUND = 1 << 20  # bytes of a form beside its file
JSON_BYTES = 1 << 16
NAME_CHARS = 255
FETCHED = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
EVERYWHERE = ("/v1/files", "/openai/v1/files", "/openai/files")
ONE = tuple(f"{path}/{{file_id:str}}" for path in EVERYWHERE)
CHOICES = {"purpose": get_args(Purpose), "order": get_args(Order), "anchor": ("created_at",)}


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which files."""

    limit: Annotated[int, Meta(ge=0, le=MOST, description="How many at most; 0 is as many as there are.")] = MOST
    after: Annotated[str | None, Meta(description="The id of the last file of the page before.")] = None
    order: Annotated[Order, Meta(description="`desc`: the newest first.")] = "desc"
    purpose: Annotated[str | None, Meta(description="Only files of this purpose.")] = None


class Expiry(msgspec.Struct, forbid_unknown_fields=True):
    """When the file is to go."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class FormBody(msgspec.Struct, forbid_unknown_fields=True):
    """The texts of an upload's form."""

    purpose: Purpose
    expires_after: Expiry | None = None


class JsonBody(msgspec.Struct, forbid_unknown_fields=True):
    """An upload by address."""

    url: Annotated[str, Meta(min_length=1, max_length=8192)]
    purpose: Purpose = "vision"
    filename: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)] | None = None
    expires_after: Expiry | None = None


class FileObject(msgspec.Struct, kw_only=True):
    """A file, as OpenAI tells of it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(msgspec.Struct, kw_only=True):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct, kw_only=True):
    """That a file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


def responses(shape: type[msgspec.Struct], what: str) -> dict[int, ResponseSpec]:
    """What `/schema` tells of the answers."""
    return {
        200: ResponseSpec(shape, generate_examples=False, description=what),
        400: ResponseSpec(Envelope, generate_examples=False, description="What is wrong with the request."),
        401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
        404: ResponseSpec(Envelope, generate_examples=False, description="No such file of this key."),
    }


def told(found: msgspec.Struct) -> Answer:
    """It as JSON."""
    return Answer(200, [msgspec.json.encode(found)], {})


def shown(upload: Upload) -> FileObject:
    """A row as a client sees it."""
    return FileObject(
        id=upload.id, bytes=upload.bytes, created_at=upload.created // 1000, filename=upload.filename,
        purpose=upload.purpose, expires_at=None if upload.expires is None else upload.expires // 1000,
    )  # fmt: skip


async def entered(request: Request[None, None, State]) -> tuple[Gateway, Caller]:
    """The server's parts, and who calls."""
    gateway: Gateway = request.app.state.gateway
    return gateway, await calling(request)


@post(list(EVERYWHERE), status_code=200, tags=["Files"], responses=responses(FileObject, "The file."))
async def create(request: Request[None, None, State]) -> Answer:
    """Keep a file: as a form with `file` and `purpose`, or as JSON with the `url` of a picture that is fetched."""
    gateway, caller = await entered(request)
    kind = request.headers.get("content-type", "")
    body: FormBody | JsonBody
    if kind.lower().startswith("multipart/form-data"):
        name, blob, body = await uploaded(request, gateway.config.files.upload_bytes, kind)
    else:
        name, blob, body = await referred(gateway, await text(request, JSON_BYTES))
    lifetime = body.expires_after.seconds if body.expires_after else None
    made = await gateway.uploads.create(caller.id, blob, filename=name, purpose=body.purpose, lifetime=lifetime)
    return told(shown(made))


async def uploaded(request: Request[None, None, State], most: int, kind: str) -> tuple[str, Blob, FormBody]:
    """The name, the file and the texts of a form."""
    check_announced(request, most + AROUND)
    limits = forms.Limits(body_bytes=most + AROUND, text_bytes=JSON_BYTES, parts=8)
    form = await forms.parse(arriving(request), kind, limits)
    files = [part for part in form.parts if part.name == "file"]
    if not files:
        raise invalid.missing("file")
    if len(files) > 1 or isinstance(blob := files[0].value, str):
        raise invalid.wrong_type("file", "a file", "a string" if len(files) == 1 else "an array of files")
    texts = [(part.name, part.value) for part in form.parts if isinstance(part.value, str)]
    if stray := next((part.name for part in form.parts if part.name != "file" and isinstance(part.value, Blob)), None):
        raise invalid.unknown_parameter(stray)
    if not blob.size:
        raise invalid.invalid_value("file", "Invalid 'file': the file is empty.")
    if blob.size > most:
        text = f"Invalid 'file': it is larger than {most} bytes."
        raise Fault("invalid", text, code="request_too_large", param="file")
    plain = forms.nest(texts, number, lists=frozenset())
    return clean(files[0].filename) or "upload", blob, converted(plain, FormBody)


def number(path: tuple[str, ...], given: str) -> Any:
    """A form's text as the JSON value that it stands for."""
    return int(given) if path[-1] == "seconds" and re.fullmatch("[0-9]{1,18}", given, re.ASCII) else given


def converted(plain: Any, shape: type[Shape]) -> Shape:
    """`plain` as `shape`. Raises `Fault("invalid")` in OpenAI's words."""
    try:
        return msgspec.convert(plain, shape)
    except msgspec.ValidationError as error:
        raise invalid.explain(error, plain, CHOICES) from error


async def referred(gateway: Gateway, data: bytes) -> tuple[str, Blob, JsonBody]:
    """The name and the picture at an address, and the JSON that names it."""
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid.bad_json(error) from error
    body = converted(plain, JsonBody)
    if not body.url[:8].lower().startswith(("http://", "https://")):
        text = f"Invalid 'url'. Expected an http(s) URL, but got '{invalid.clip(body.url)}'."
        raise invalid.invalid_value("url", text)
    bounds = {"bytes": gateway.config.files.reference_bytes, "seconds": gateway.config.fetch.seconds}
    try:
        blob = await fetch.client_picture(gateway.pools, Link(body.url, "url"), bounds, spooled=True)
    except Fault as fault:
        if isinstance(fault.__cause__, Refused):
            gateway.metrics.count("fetch_refused_total", "client", "address")
        raise
    if (kind := type_of(blob)) not in FETCHED:
        formats = invalid.listed(FETCHED)
        text = f"Invalid file 'url': unsupported mimetype ('{kind}'). Supported file formats are {formats}."
        raise Fault("invalid", text, code="unsupported_file_mimetype", param="url")
    last = unquote(urlsplit(body.url).path.rpartition("/")[2])
    return clean(body.filename or last) or f"picture.{EXTENSIONS[kind]}", blob, body


def clean(name: str) -> str:
    """A file's name without folders and without what no name holds."""
    return _CONTROL.sub("", re.split(r"[/\\]", name)[-1]).strip()[-NAME_CHARS:]


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # also what turns text around


@get(
    list(EVERYWHERE), tags=["Files"], responses=responses(FileList, "A page of this key's files."),
    operation_class=query.documented(Query),
)  # fmt: skip
async def page(request: Request[None, None, State]) -> Answer:
    """This key's files."""
    gateway, caller = await entered(request)
    pairs = (pair for pair in request.query_params.multi_items() if pair[0] != "api-version")  # Azure's clients send it
    wanted = query.read(pairs, Query, CHOICES)
    found = await gateway.uploads.page(
        caller.id, wanted.limit or MOST, after=wanted.after, oldest_first=wanted.order == "asc", purpose=wanted.purpose
    )
    data = [shown(each) for each in found.uploads]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return told(FileList(data=data, first_id=first, last_id=last, has_more=found.more))


@get(list(ONE), tags=["Files"], responses=responses(FileObject, "The file."))
async def retrieve(request: Request[None, None, State], file_id: FromPath[str]) -> Answer:
    """One file, without its bytes."""
    gateway, caller = await entered(request)
    return told(shown(await gateway.uploads.get(caller.id, file_id)))


@get([f"{path}/content" for path in ONE], tags=["Files"], media_type="*/*")
async def content(request: Request[None, None, State], file_id: FromPath[str]) -> Response[Any]:
    """A file's bytes, whole or one range of them."""
    gateway, caller = await entered(request)
    upload = await gateway.uploads.get(caller.id, file_id)
    served = Served(
        tag=upload.id, type=upload.type, size=upload.bytes, modified=upload.created / 1000, name=upload.filename,
        max_age=0, attached=True,
    )  # fmt: skip
    return answer(request, served, partial(gateway.uploads.read, upload))


@delete(list(ONE), status_code=200, tags=["Files"], responses=responses(FileDeleted, "It is gone."))
async def remove(request: Request[None, None, State], file_id: FromPath[str]) -> Answer:
    """Delete a file."""
    gateway, caller = await entered(request)
    await gateway.uploads.delete(caller.id, file_id)
    return told(FileDeleted(id=file_id))


HANDLERS = [create, page, retrieve, content, remove]
