"""The real server with every provider, each on its own strict fake, and what tests of whole calls share."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pybase64
from aiohttp import web
from openai.types import ImagesResponse
from PIL import Image

from tests.fakes.base import WRONG_KEY, Fake, Seen, running
from tests.fakes.openai import OpenAI, Refused, form, refusal
from tests.server import KEY, Server, serving
from translators import NAMES


def fake_of(name: str) -> type[Fake]:
    """That provider's fake, which stands in the module of its name."""
    module = vars(import_module(f"tests.fakes.{name}"))
    classes = (each for each in module.values() if isinstance(each, type) and issubclass(each, Fake))
    (found,) = [each for each in classes if vars(each).get("name") == name]
    return found


EVERY: Mapping[str, type[Fake]] = {name: fake_of(name) for name in NAMES if find_spec(f"tests.fakes.{name}")}
"""What tests are parametrised with: providers by their ids, in the order of the list."""


@dataclass
class Moody(OpenAI):
    """OpenAI's endpoints, but the next calls are answered with the statuses in `moods`."""

    moods: list[int] = field(default_factory=list)

    async def edit(self, request: web.Request) -> web.StreamResponse:
        if self.moods:
            status = self.moods.pop(0)
            kind = "service_unavailable_error" if status == 503 else "server_error"
            code = "server_is_overloaded" if status == 503 else None
            return refusal(Refused("Not now.", code=code, status=status, kind=kind))
        return await super().edit(request)


ALIASES: Mapping[str, Any] = {
    "dall-e-3": ["openai/gpt-image-2"],
    "dall-e-2": ["azure/gpt-image-2", "openai/gpt-image-2"],
    "house style": ["moody/gpt-image-2", "openai/gpt-image-2"],
    "abroad": ["moody/gpt-image-2", "gemini/gemini-nano-banana-2.1"],
}


@dataclass(frozen=True)
class Stage:
    """A running server and its upstreams, by their names."""

    server: Server
    fakes: Mapping[str, Fake]

    def clear(self) -> None:
        """Forget what the upstreams saw."""
        for fake in self.fakes.values():
            fake.seen.clear()

    def submits(self, name: str) -> list[Seen]:
        """What reached that upstream to be paid for: no polls, no downloads, no logins."""
        fake = self.fakes[name]
        return [seen for seen in fake.seen if fake.pays(seen)]

    def uploads(self, name: str) -> list[list[str]]:
        """The pictures in each of those requests, by their digests."""
        return [sums(received(seen, self.fakes[name])) for seen in self.submits(name)]

    def silent(self) -> bool:
        """Whether nothing reached any upstream."""
        return not any(fake.seen for fake in self.fakes.values())


@contextmanager
def staged(folder: Path, *, public: bool = False, **config: Any) -> Iterator[Stage]:
    """Every provider by its id, each once more as `wrong-<id>` with a key that it does not know, and `moody`."""
    with ExitStack() as stack:
        fakes = {name: stack.enter_context(running(fake())) for name, fake in EVERY.items()}
        fakes["moody"] = stack.enter_context(running(Moody()))
        providers = {name: fake.config() for name, fake in fakes.items()}
        providers["moody"]["translator"] = "openai"
        providers |= {
            f"wrong-{name}": {**fakes[name].config(WRONG_KEY), "translator": name, "models_only": [fake.generates]}
            for name, fake in EVERY.items()
            if fake.keyed
        }
        for entry in providers.values():
            entry.setdefault("timeouts", {"job": 60})
        server = stack.enter_context(serving(folder, providers, public=public, models=dict(ALIASES), **config))
        yield Stage(server, fakes)
        assert not [trace for fake in fakes.values() for trace in fake.broken]
        log = server.log.read_text()
        assert '"level":"error"' not in log, log
        assert KEY not in log
        assert not BASE64.search(log), "a picture in the log"


def photo(color: tuple[int, int, int] = (200, 90, 30), size: tuple[int, int] = (512, 384), kind: str = "PNG") -> bytes:
    """A picture that is no two times the same: a gradient over that colour."""
    image = Image.new("RGB", size, color)
    image.paste(Image.linear_gradient("L").resize((size[0] // 2, size[1] // 2)).convert("RGB"))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def hole(size: tuple[int, int] = (512, 384)) -> bytes:
    """A mask in OpenAI's manner whose left half is open."""
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """A picture, decoded to its last pixel."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def decoded(text: str | None) -> Image.Image:
    """A picture in an answer's base64."""
    assert text
    return opened(pybase64.b64decode(text, validate=True))


def measured(image: Image.Image) -> tuple[str, str]:
    """Size and format as an answer names them."""
    return f"{image.width}x{image.height}", (image.format or "").lower()


def check(response: ImagesResponse, count: int = 1) -> list[Image.Image]:
    """The pictures in an answer to OpenAI's client, which are what it says they are."""
    assert response.data is not None
    pictures = [decoded(each.b64_json) for each in response.data]
    assert len(pictures) == count
    assert {measured(picture) for picture in pictures} == {(response.size, response.output_format)}
    assert all(each.url is None for each in response.data)
    assert (response._request_id or "").startswith("req_")
    return pictures


def sums(pictures: Iterable[bytes]) -> list[str]:
    """Their digests: shorter than the bytes where an assertion fails."""
    return [hashlib.sha256(picture).hexdigest() for picture in pictures]


BASE64 = re.compile(r"(?:data:image/[a-z]+;base64,)?([A-Za-z0-9+/]{200,}={0,2})")


def received(seen: Seen, fake: Fake | None = None) -> list[bytes]:
    """The pictures in a request, in order, however that provider wants them."""
    kind = seen.headers.get("Content-Type", "")
    if kind.startswith("multipart/form-data"):
        return [part.data for part in form(kind, seen.body) if part.filename is not None]
    if kind.startswith("image/"):
        return [seen.body]
    pictures = (picture_of(text, fake) for text in strings(msgspec.json.decode(seen.body or b"null")))
    return [picture for picture in pictures if picture is not None]


def picture_of(text: str, fake: Fake | None) -> bytes | None:
    """The picture that a text in a request is, or stands for."""
    if match := BASE64.fullmatch(text):
        return pybase64.b64decode(match[1], validate=True)
    return fake.at(text) if fake else None


def texts(seen: Seen) -> list[str]:
    """The texts in a request."""
    kind = seen.headers.get("Content-Type", "")
    if kind.startswith("multipart/form-data"):
        return [part.data.decode() for part in form(kind, seen.body) if part.filename is None]
    return list(strings(msgspec.json.decode(seen.body)))


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
