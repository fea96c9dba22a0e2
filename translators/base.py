"""What a translator is: pure functions between one OpenAI job and one provider's wire.

A translator never opens a socket, reads a clock, sleeps, logs or touches disk. The engine does all of that: it
sends every `Call`, and feeds the `Reply` back. A translator is a module that satisfies `Translator`; the package's
`ALL` lists them.

Pictures travel as `Blob`s: the chunks in which they were received, never joined, never parsed, decoded only where
a pixel must change. What a translator reads is a reply's *skeleton*, from which the engine has lifted every long
string; what it writes is JSON with `Inline`s in it, or a form with `Media` parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec
import pybase64

Op: TypeAlias = Literal["generate", "edit", "variation", "video", "speech"]
MaskRule: TypeAlias = Literal["none", "alpha", "white-edits", "black-edits"]
Encoding: TypeAlias = Literal["raw", "base64", "hex"]
Keeps: TypeAlias = Literal["edit", "variation", "mask", "single"]
"""Edits, variations, edits with a mask, or edits of a single picture."""
Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

FaultKind: TypeAlias = Literal[
    "auth",  # the provider does not know the credential
    "permission",  # the credential may not do this
    "quota",  # its money or allowance is used up; waiting does not help
    "rate",  # too fast; waiting helps
    "invalid",  # the request can never succeed
    "policy",  # refused for its content
    "missing",  # no such model, path or task
    "overloaded",  # the provider has no room now
    "upstream",  # the provider failed, or answered what nobody can read
    "empty",  # success without a picture
    "timeout",  # no answer in time
    "cancelled",  # nobody waits any more
]


class Blob:
    """Bytes as they came, in pieces that are never joined.

    `chunks` can be walked more than once: a tuple of received pieces, or a file on disk that yields its pieces.
    `size` counts the bytes in `chunks`, that is, before `encoding` is undone. Not a struct: decoders must meet it in
    their hook.
    """

    __slots__ = ("chunks", "encoding", "size")

    def __init__(self, chunks: Iterable[bytes], size: int, encoding: Encoding = "raw") -> None:
        self.chunks = chunks
        self.size = size
        self.encoding = encoding

    def __repr__(self) -> str:
        return f"Blob({self.size} bytes, {self.encoding})"

    @property
    def length(self) -> int:
        """How many bytes it holds once decoded. Exact for `raw` and `hex`; for `base64`, from the padding."""
        if self.encoding == "raw":
            return self.size
        if self.encoding == "hex":
            return self.size // 2
        tail = b""
        for chunk in self.chunks:
            tail = (tail + chunk[-2:])[-2:]
        unpadded = self.size - tail.count(b"=")
        return unpadded * 3 // 4

    @property
    def base64_length(self) -> int:
        """How long `base64` makes it."""
        return self.size if self.encoding == "base64" else (self.length + 2) // 3 * 4

    def head(self, count: int = 4096) -> bytes:
        """The first `count` decoded bytes, or fewer where there are no more."""
        got = bytearray()
        for piece in self.decoded():
            got += piece[: count - len(got)]
            if len(got) >= count:
                break
        return bytes(got)

    def decoded(self) -> Iterator[bytes]:
        """The bytes themselves, piece by piece. Raises `ValueError` where the encoding is broken."""
        if self.encoding == "raw":
            yield from self.chunks
        elif self.encoding == "hex":
            for piece in aligned(self.chunks, 2):
                yield bytes.fromhex(piece.decode("ascii"))
        else:
            for piece in aligned(self.chunks, 4):
                yield pybase64.b64decode(piece, validate=True)

    def base64(self) -> Iterator[bytes]:
        """Standard base64 of the bytes, piece by piece; as it came where it came so."""
        if self.encoding == "base64":
            yield from self.chunks
        else:
            for piece in aligned(self.decoded(), 3):
                yield pybase64.b64encode(piece)

    def bytes(self) -> bytes:
        """All of it, decoded and joined: for pixels and small things only."""
        return b"".join(self.decoded())


def aligned(chunks: Iterable[bytes], unit: int) -> Iterator[bytes]:
    """The same bytes in pieces whose lengths are multiples of `unit`; the last one takes the rest.

    A chunk that is already aligned is handed on as it is.
    """
    rest = b""
    for chunk in chunks:
        piece = rest + chunk if rest else chunk
        cut = len(piece) % unit
        rest = piece[len(piece) - cut :] if cut else b""
        if whole := piece[: len(piece) - cut] if cut else piece:
            yield whole
    if rest:
        yield rest


def blob(data: bytes, encoding: Encoding = "raw") -> Blob:
    """A blob of one piece."""
    return Blob((data,), len(data), encoding)


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to send, settled before a translator sees it: typed, measured, upright, in bounds."""

    blob: Blob
    type: str  # image/png, image/jpeg …
    width: int = 0
    height: int = 0
    alpha: bool = False  # whether it can be transparent
    url: str | None = None  # a public address, made by the engine where `Caps.inputs` is "url"


class Inline:
    """A place in a JSON body where a picture's base64 is to stand, with `prefix` before it in the same string.

    Not a struct: `body` must meet it in the encoder's hook.
    """

    __slots__ = ("media", "prefix")

    def __init__(self, media: Media, prefix: str = "") -> None:
        self.media = media
        self.prefix = prefix


def base64(media: Media) -> Inline:
    """Bare base64."""
    return Inline(media)


def data_url(media: Media) -> Inline:
    """`data:image/png;base64,…`, the type in lower case."""
    return Inline(media, f"data:{media.type};base64,")


class Lora(msgspec.Struct, frozen=True):
    """One LoRA and its weight."""

    model: str
    weight: float = 1.0


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One upstream call's worth of work for one target.

    Everything is settled: the alias is resolved, the size is legal for this model, `n` is within its maximum,
    pictures are fetched and typed, the mask has the polarity that the model wants, and a field that the model does
    not take is not set. A translator only maps. `None` means: not asked for, leave it out.
    """

    op: Op
    model: str  # the provider's own id, without the provider's name
    prompt: str = ""
    n: int = 1
    size: Size | None = None  # exact pixels, for models with `sizes` or `free`
    ratio: str | None = None  # "16:9", one of `Caps.ratios`
    resolution: str | None = None  # one of `Caps.resolutions`, in the model's own spelling
    images: tuple[Media, ...] = ()
    mask: Media | None = None
    markup: Media | None = None
    format: str | None = None  # one of `Caps.formats`: png, jpeg, webp, gif, svg
    compression: int | None = None  # 0-100
    quality: str | None = None  # one of `Caps.qualities`
    background: str | None = None  # one of `Caps.backgrounds`
    stream: bool = False
    partials: int = 0  # previews wanted, 0-3
    style: str | None = None
    moderation: str | None = None  # "low" or "auto"
    fidelity: str | None = None  # `input_fidelity`: "high" or "low"
    complexity: str | None = None
    frame_count: int | None = None
    frame_duration_ms: int | None = None
    svg: Mapping[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    loras: tuple[Lora, ...] = ()
    watermark: bool | None = None
    options: Mapping[str, Any] = {}  # `provider_options`, only names that `Caps.options` lists
    site: Mapping[str, str] = {}  # the provider's settings from the configuration: region, project, api_version …
    mark: str | None = None  # our own name for the call, by which a provider that takes one can be asked for it


VARY = "Make a variation of this image."


def prompted(job: Job) -> str:
    """The client's prompt; for a variation that came without one, what stands for it at a model that needs words."""
    return job.prompt or (VARY if job.op == "variation" else "")


class Part(msgspec.Struct, frozen=True):
    """One multipart field. A `Media` value becomes a file part with a safe name of our own and its true type."""

    name: str
    value: str | Media


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One HTTP request to send, without credentials. Plain data: a task that waits can be written to disk.

    `path` is joined to the provider's base, or absolute (then its host must be the base's or in `Provider.hosts`).
    """

    path: str
    method: str = "POST"
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    json: Any = None  # may hold `Inline`s
    form: tuple[Part, ...] = ()
    text: str | None = None  # a ready body that is neither JSON nor a form; names its type in `headers`
    media: Media | None = None  # a picture as the whole body, for uploads to a storage
    read: Literal["json", "bytes", "events"] = "json"  # bytes: the body is the picture; events: SSE, if it is so typed
    repeatable: bool = False  # sending it twice cannot pay twice
    anonymous: bool = False  # to any public address, such as a storage that the provider named: without the credential
    state: str = ""  # the translator's own memory between steps


T = TypeVar("T")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for a `Call`; or one event of a stream.

    `data` is the body with its long strings lifted out: in their places stand tokens that `read` turns back into
    `Blob`s. With `Call.read` "bytes" and a 2xx status, `body` holds the body untouched and `data` is empty.
    """

    call: Call  # unsigned: what a translator gives back may be saved
    status: int
    headers: Mapping[str, str] = {}  # names in lower case
    data: bytes = b""
    lifted: Mapping[str, Blob] = {}  # token -> what stood there
    body: Blob | None = None
    event: str = ""  # the SSE event's name

    def read(self, shape: type[T]) -> T:
        """The body as `shape`, in which a field of type `Blob` takes a base64 string of any length.

        Unknown members are ignored. Raises `Fault("upstream")` where the body does not fit.
        """
        try:
            return msgspec.json.decode(self.data, type=shape, dec_hook=self._hook)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fault("upstream", f"The provider's answer cannot be read: {error}", code="unreadable") from error

    def blob(self, text: str, encoding: Encoding = "base64") -> Blob:
        """What stands in a string member that was read as `str`: lifted, or short enough to be there still."""
        found = self.lifted.get(text)
        return Blob(found.chunks, found.size, encoding) if found else blob(text.encode(), encoding)

    def _hook(self, kind: type, value: object) -> object:
        if kind is Blob and isinstance(value, str):
            return self.blob(value)
        raise NotImplementedError(f"{kind} in a reply's shape")


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One made picture. Exactly one of `blob` and `url` is set; the engine downloads a `url` without the credential."""

    blob: Blob | None = None
    url: str | None = None
    revised_prompt: str | None = None
    extra: Mapping[str, Any] = {}  # what the provider says of it beyond OpenAI's members


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider counted. Absent means unknown, never zero."""

    input_text: int | None = None  # tokens
    input_image: int | None = None
    output_text: int | None = None
    output_image: int | None = None
    seconds: float | None = None  # of video, as they are billed
    credits: float | None = None  # of the provider's own money, where that is not dollars
    cost_usd: float | None = None  # what the provider says it charged


class Partial(msgspec.Struct, frozen=True):
    """One preview of a streamed picture."""

    index: int  # 0-based
    output: Output


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The job is finished. `faults` tells what became of those of `n` that are not in `outputs`.

    `partials` are previews that came with it: only a provider without a wire has them.
    """

    outputs: tuple[Output, ...]
    partials: tuple[Partial, ...] = ()
    usage: Usage = Usage()
    faults: tuple[Fault, ...] = ()
    quality: str | None = None  # the effective value, where the provider says it
    background: str | None = None


class Wait(msgspec.Struct, frozen=True):
    """Send `call` after at least `seconds`. The engine may save it and survive a restart."""

    call: Call
    seconds: float
    progress: int | None = None  # 0-100, where the provider says it
    queued: bool = False  # the provider says that it has not begun


Step: TypeAlias = Call | Wait | Done
Event: TypeAlias = Partial | Output | Usage | Done
"""What a stream's event can mean: a preview, a finished picture, the count; `Done` where one event tells all three."""


class Secret(msgspec.Struct, frozen=True):
    """One upstream credential: a key, or a token that was got for it (`kind` "bearer")."""

    key: str
    kind: Literal["key", "bearer"] = "key"
    extra: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return "Secret(…)"


class Stamp(msgspec.Struct, frozen=True):
    """What a signature may take from outside. Given, so that signing is pure and has test vectors."""

    now: datetime
    nonce: str


Unit: TypeAlias = Literal[
    "image", "megapixel", "input_image", "input_megapixel", "token.text.in", "token.image.in", "token.text.out",
    "token.image.out", "second", "video", "character", "credit",
]  # fmt: skip
Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One price rule: `amount` buys `per` units. All rules that fit are added up; but where the provider tells how many
    credits it took, rules for credits stand instead of all others.

    A rule without a condition always fits. `pixels` bounds width x height of the delivered picture: more than the
    first number, at most the second (0: no bound). `free` units cost nothing.

    Of a video, `resolution` is the one that was asked for, and rules for tokens stand instead of those for seconds and
    whole videos where the provider tells how many it took.
    """

    unit: Unit
    amount: Amount
    per: Annotated[int, msgspec.Meta(ge=1)] = 1  # 1,000,000 for token prices
    currency: Literal["USD", "CNY"] = "USD"
    op: Op | None = None
    quality: str | None = None
    size: str | None = None  # "1024x1024"
    resolution: str | None = None
    pixels: tuple[Whole, Whole] = (0, 0)
    sound: bool | None = None  # of a video: with sound, or silent
    clip: bool | None = None  # of a video: where another one is worked on, or not
    seconds: Whole | None = None  # of a video: of just that length
    free: Whole = 0


Tokens: TypeAlias = Literal["patches", "gpt-image-1", "gpt-image-2", "gpt-image-2.5", "nano-banana"]
"""How the tokens of a picture are counted; `patches`: one for each 16 x 16 pixels."""


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a model that takes any width and height within bounds. Lengths in pixels, 0: no bound."""

    step: int = 1  # both edges are multiples of it
    pixels: tuple[int, int] = (0, 0)  # least and most of width x height
    edge: tuple[int, int] = (1, 0)  # least and most of either edge
    ratio: float = 0  # longer over shorter edge at most


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What one model can do. Data, so that it can be listed, documented, tested, and overridden in `config.yaml`.

    How a size is asked for: `sizes` (a closed list), `free` (any within bounds), or `ratios` with or without
    `resolutions` (the provider picks the pixels; `pixels_of` names them where they are documented). None of these:
    the model decides. `auto_size` says that leaving the size out is legal.
    """

    ops: frozenset[Op]
    max_n: int = 1  # pictures of one upstream call; more are several calls
    prompt_chars: int = 32_000
    sizes: tuple[Size, ...] = ()
    free: Free | None = None
    ratios: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()  # ascending, in the model's spelling: 512, 1K, 1.5K, 2K, 4K
    pixels_of: Mapping[str, Size] = {}  # "16:9@2K" -> width, height
    auto_size: bool = True
    keeps: frozenset[Keeps] = frozenset()  # where the picture's own shape stays, whatever size is asked for
    min_images: int = 0  # of an edit, where it needs more than one; an edit always needs one
    max_images: int = 0  # references that one call takes
    mask: MaskRule = "none"
    mask_required: bool = False  # an inpainting model that cannot edit without one
    markup: bool = False
    inputs: Literal["bytes", "url"] = "bytes"
    input_types: tuple[str, ...] = ("image/png", "image/jpeg", "image/webp")
    input_bytes: int = 50_000_000  # of one picture
    input_pixels: int = 0  # width x height, 0: no bound
    input_edge: tuple[int, int] = (0, 0)  # least and most of either edge
    formats: tuple[str, ...] = ()  # that can be asked for, best first; empty: it gives what it gives
    compression: bool = False
    qualities: tuple[str, ...] = ()  # ascending
    backgrounds: tuple[str, ...] = ()  # transparent, opaque, auto
    streams: bool = False  # real events
    partials: int = 0  # previews that can be asked for
    params: frozenset[str] = frozenset()  # further fields of `Job` that it takes: seed, steps, user …
    options: frozenset[str] = frozenset()  # names in `provider_options`; "*" for any
    prices: tuple[Price, ...] = ()
    tokens: Tokens = "patches"  # how it counts those of a picture, where they are priced: for estimates alone
    ends: str | None = None  # the day of its shutdown, 2026-12-01
    note: str | None = None  # one sentence for the model list


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed about a provider, as data."""

    title: str
    env: Mapping[str, str] = {}  # setting -> the usual environment variable: {"api_key": "BFL_API_KEY"}
    settings: frozenset[str] = frozenset()  # what `Job.site` may hold beside "region" and "base_url"
    regions: tuple[str, ...] = ()  # the first is the default
    hosts: frozenset[str] = frozenset()  # further hosts that may be polled with the credential: "*.bfl.ai"
    credential: Literal["key", "key-or-token", "none"] = "key"
    grant: Mapping[str, str] = {}  # how a token is got: "token_url" with {settings} in it, "scope"
    docs: str = ""
    poll_seconds: float = 1.0


class Fault(Exception):
    """A provider said no. The kind decides status, retry, fallback and breaker; the text reaches the client."""

    def __init__(  # noqa: PLR0913 - facts of one refusal, each by its name
        self,
        kind: FaultKind,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        cost_usd: float | None = None,
        usage: Usage | None = None,
        final: bool = False,
        passing: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code  # the provider's own, or ours; text
        self.param = param
        self.retry_after = retry_after  # seconds
        self.cost_usd = cost_usd  # charged although it failed
        self.usage = usage  # what was counted although it failed, where that is all the provider says
        self.lost = 0  # pictures that were made and charged, and did not arrive
        self.final = final  # the provider's task itself has failed: polling it again changes nothing
        self.passing = passing  # the fault is of one poll and says nothing of the task; else the engine tells
        self.type: str | None = None  # of the envelope, where it is not the one that its kind has
        self.headers: Mapping[str, str] = {}  # of the answer, beside those that its kind has


class Translator(Protocol):
    """A module in this package. Every function is pure.

    `start` may answer `Done` at once (a provider without a wire); the engine runs it off the event loop then.
    `check` sees every reply, each event of a stream included, before `step` or `event` does, and raises the fault
    in it: by the body first, then by the status.
    """

    @property
    def PROVIDER(self) -> Provider: ...
    @property
    def MODELS(self) -> Mapping[str, Caps]: ...  # the models that are listed; others go through `caps`
    def base(self, site: Mapping[str, str], /) -> str: ...  # no slash at its end; "" where there is no wire
    def caps(self, model: str, /) -> Caps | None: ...  # None: there is no such model here
    def start(self, job: Job, /) -> Step: ...
    def step(self, job: Job, reply: Reply, /) -> Step: ...
    def check(self, reply: Reply, /) -> None: ...
    def sign(self, call: Call, secret: Secret, stamp: Stamp, /) -> Call: ...  # `call.path` is absolute here
    def event(self, job: Job, reply: Reply, /) -> Iterator[Event]: ...


@runtime_checkable
class Finder(Protocol):
    """Two further words of a translator, for a submit whose answer was lost: the provider can be asked for the task by
    the `Job.mark` that was sent with it. `isinstance(translator, Finder)` says who has them; the others need nothing.

    `look` tells how to ask, `None` where this job bore no mark. Its reply goes through `check`, then to `found`, which
    tells how the task goes on, `None` where there is none, so that the job may be submitted again. A task that has
    failed is raised by `check`, as in a poll.
    """

    def look(self, job: Job, /) -> Call | None: ...
    def found(self, job: Job, reply: Reply, /) -> Step | None: ...


@runtime_checkable
class Stopper(Protocol):
    """A further word of a translator whose provider can stop a task: the call for the task of that poll, or `None`."""

    def cancel(self, job: Any, waiting: Call, /) -> Call | None: ...


Piece: TypeAlias = bytes | Inline


def body(call: Call) -> tuple[Piece, ...]:
    """The exact JSON body of `call` in pieces: what is signed is what is sent. Empty without a JSON body.

    A zero byte marks an `Inline`'s place while the body is encoded: JSON text never holds one, so nothing that a
    client writes can stand for it.
    """
    if call.json is None:
        return ()
    found: list[Inline] = []

    def hook(value: object) -> msgspec.Raw:
        if not isinstance(value, Inline):
            raise NotImplementedError(f"{type(value)} in a call's body")
        found.append(value)
        return msgspec.Raw(b'"' + msgspec.json.encode(value.prefix)[1:-1] + b'\0"')

    first, *rest = msgspec.json.encode(call.json, enc_hook=hook).split(b"\0")
    pieces: list[Piece] = [first]
    for inline, text in zip(found, rest, strict=True):
        pieces += (inline, text)
    return tuple(pieces)


def bearer(call: Call, secret: Secret, stamp: Stamp, /) -> Call:
    """Authorization: Bearer."""
    return header(call, "Authorization", f"Bearer {secret.key}")


def header(call: Call, name: str, value: str) -> Call:
    """`call` with one more header."""
    return msgspec.structs.replace(call, headers={**call.headers, name: value})


def no_events(job: Job, reply: Reply, /) -> Iterator[Event]:
    """For providers that do not stream."""
    raise Fault("upstream", "The provider sent events that were not asked for.", code="unreadable")


BY_STATUS: dict[int, FaultKind] = {
    400: "invalid", 401: "auth", 402: "quota", 403: "permission", 404: "missing", 408: "timeout", 410: "missing",
    413: "invalid", 422: "invalid", 429: "rate", 500: "upstream",
    502: "upstream", 503: "overloaded", 504: "timeout", 520: "upstream", 524: "timeout", 529: "overloaded",
}  # fmt: skip


def by_status(reply: Reply, message: str, code: str | None = None, param: str | None = None) -> None:
    """Raise the fault that the status alone tells; nothing below 400."""
    if reply.status >= 400:
        kind = BY_STATUS.get(reply.status, "upstream" if reply.status >= 500 else "invalid")
        raise Fault(kind, message, code=code, param=param, retry_after=retry_after(reply))


def retry_after(reply: Reply) -> float | None:
    """Seconds from `retry-after-ms` or a numeric `retry-after`; dates are left to the engine's own backoff."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(reply.headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None
