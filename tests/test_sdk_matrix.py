"""The official Python client against every provider at its strict fake: what can be asked of one can be asked of all.

Every call is made before the first is judged, many at a time: most of their time is a provider's pause between polls.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from openai.types import ImageEditCompletedEvent, ImageGenCompletedEvent
from PIL import ImageChops

from proxy import abilities, providers
from tests.fakes.base import Fake, Seen
from tests.server import KEY
from tests.stage import EVERY, Stage, check, decoded, hole, measured, opened, photo, received, staged, sums, texts
from translators import NAMES, load
from translators.base import Caps, MaskRule, Size

AT_ONCE = 24  # calls
PROMPT = 'a "cat"\\ in {braces}, 図 é 🐈\r\n--boundary--\r\n\tand \x00 nothing; name="x"'

# of the client itself, which says it of variations
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

WIRED = [name for name, fake in EVERY.items() if fake.wired]
KEYED = [name for name, fake in EVERY.items() if fake.keyed]
EDITING = [name for name, fake in EVERY.items() if fake.edits]


# ---- what is asked


@dataclass(frozen=True)
class Asking:
    """One provider, and the clients that ask it. `word` stands in every prompt: by it, what arrives is told apart."""

    fake: type[Fake]
    word: str
    client: AsyncOpenAI  # checks answers against OpenAI's own types
    lax: AsyncOpenAI  # for streams: who knows of no tokens is not made to invent some
    patient: AsyncOpenAI  # with the retries that the client is shipped with

    def model(self, name: str | None, prefix: str = "") -> str:
        """The full id of one of the provider's models."""
        return f"{prefix}{self.fake.name}/{name}"

    def prompt(self, text: str) -> str:
        """`text`, marked."""
        return f"{text}, {self.word}"


async def generate(to: Asking) -> Any:
    prompt = to.prompt("a cat, patiently")
    return await to.client.images.generate(model=to.model(to.fake.generates), prompt=prompt, size="1024x1024")


async def webp(to: Asking) -> Any:
    """`response_format` is for us alone: a strict upstream would refuse it. So is the conversion to another format."""
    return await to.client.images.generate(
        model=to.model(to.fake.generates), prompt=to.prompt("a cat"), response_format="b64_json", output_format="webp",
        output_compression=80,
    )  # fmt: skip


async def png(to: Asking) -> Any:
    model = to.model(to.fake.generates)
    return await to.client.images.generate(model=model, prompt=to.prompt("a cat"), output_format="png")


async def jpeg(to: Asking) -> Any:
    model, prompt = to.model(to.fake.edits), to.prompt("a cat")
    return await to.client.images.edit(model=model, image=given(to), prompt=prompt, output_format="jpeg")


async def link(to: Asking) -> Any:
    model, prompt = to.model(to.fake.generates), to.prompt("a cat")
    response = await to.client.images.generate(model=model, prompt=prompt, response_format="url")
    assert response.data
    url = response.data[0].url or ""
    async with httpx.AsyncClient(trust_env=False, verify=False) as anybody:
        return response, await anybody.get(url), await anybody.get(url, headers={"Range": "bytes=5-24"})


async def edit(to: Asking) -> Any:
    model, prompt = to.model(to.fake.edits or to.fake.generates), to.prompt("in winter")
    return await to.client.images.edit(model=model, image=given(to), prompt=prompt)


async def mask(to: Asking) -> Any:
    return await to.client.images.edit(
        model=to.model(to.fake.masks or to.fake.edits), image=given(to), mask=hole(to.fake.photo),
        prompt=to.prompt("a hat"),
    )  # fmt: skip


async def several(to: Asking) -> Any:
    model, prompt = to.model(to.fake.fuses or to.fake.edits), to.prompt("together")
    return await to.client.images.edit(model=model, image=as_many(to.fake), prompt=prompt)


async def three_of_them(to: Asking) -> Any:
    small = "1024x1024" if to.fake.wired else "256x256"
    model = to.model(to.fake.generates)
    return await to.client.images.generate(model=model, prompt=to.prompt("a cat"), n=3, size=small)


async def vary(to: Asking) -> Any:
    model = to.model(to.fake.varies or to.fake.edits)
    return await to.client.images.create_variation(model=model, image=given(to), response_format="b64_json")


async def odd_prompt(to: Asking) -> Any:
    model, prompt = to.model(to.fake.generates), to.prompt(PROMPT)
    return await to.client.images.generate(model=model, prompt=prompt)


async def odd_prompt_of_an_edit(to: Asking) -> Any:
    model, prompt = to.model(to.fake.edits), to.prompt(PROMPT)
    return await to.client.images.edit(model=model, prompt=prompt, image=given(to))


async def stream(to: Asking) -> Any:
    events = await to.lax.images.generate(
        model=to.model(to.fake.generates), prompt=to.prompt("a cat"), stream=True, partial_images=2
    )
    return events.response.headers, [event async for event in events]


async def stream_of_an_edit(to: Asking) -> Any:
    events = await to.lax.images.edit(
        model=to.model(to.fake.edits), image=given(to), prompt=to.prompt("in winter"), stream=True, partial_images=2,
        output_format="png",
    )  # fmt: skip
    return events.response.headers, [event async for event in events]


async def refusal(to: Asking) -> Any:
    return await to.patient.images.generate(model=to.model(to.fake.generates), prompt=to.prompt("refuse me"))


async def limit(to: Asking) -> Any:
    return await to.client.images.generate(model=to.model(to.fake.generates), prompt=to.prompt("rate limit me"))


async def failure(to: Asking) -> Any:
    return await to.client.images.generate(model=to.model(to.fake.generates), prompt=to.prompt("fail me"))


async def emptiness(to: Asking) -> Any:
    return await to.patient.images.generate(model=to.model(to.fake.generates), prompt=to.prompt("empty please"))


async def wrong_key(to: Asking) -> Any:
    model = to.model(to.fake.generates, "wrong-")
    return await to.client.images.generate(model=model, prompt=to.prompt("a cat"))


Ask = Callable[[Asking], Awaitable[Any]]
ASKS: tuple[tuple[Ask, Sequence[str]], ...] = (
    *((ask, [*EVERY]) for ask in (generate, webp, png, link, three_of_them, stream)),
    *((ask, [*EVERY]) for ask in (edit, refusal)),
    *((ask, EDITING) for ask in (jpeg, mask, several, vary, odd_prompt_of_an_edit, stream_of_an_edit)),
    *((ask, WIRED) for ask in (odd_prompt, limit, failure, emptiness)),
    (wrong_key, KEYED),
)


# ---- what came of it


@dataclass
class Outcome:
    """The answer or what was raised; how often the client asked, and what reached the provider to be paid for."""

    answer: Any = None
    fault: Exception | None = None
    asked: int = 0
    seen: list[Seen] = field(default_factory=list)
    pictures: list[list[bytes]] = field(default_factory=list)  # in each of these

    def got(self) -> Any:
        """The answer; the fault is the test's where there is none."""
        if self.fault:
            raise self.fault
        return self.answer

    def raised(self, kind: type[openai.APIStatusError]) -> Any:
        """The fault, which has to be of that kind."""
        assert isinstance(self.fault, kind), repr(self.fault or self.answer)
        return self.fault


Outcomes = Mapping[tuple[str, str], Outcome]


CURRENT: ContextVar[Outcome] = ContextVar("CURRENT")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Of everything that is asked, at the providers of the tests that were chosen."""
    chosen = {
        item.callspec.params["provider"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "outcomes" in item.fixturenames
    }
    with staged(tmp_path_factory.mktemp("sdk_matrix"), public=True) as stage:
        yield asyncio.run(asked(stage, [name for name in EVERY if name in chosen]))


async def asked(stage: Stage, chosen: Sequence[str]) -> Outcomes:
    """Everything at these providers."""
    cases = [(ask, name) for ask, names in ASKS for name in names if name in chosen]
    found = {(ask.__name__, name): Outcome() for ask, name in cases}
    places = asyncio.Semaphore(AT_ONCE)
    async with client_of(stage, True, 0) as client, client_of(stage, False, 0) as lax, client_of(stage) as patient:

        async def one(ask: Ask, name: str) -> None:
            outcome = found[ask.__name__, name]
            CURRENT.set(outcome)
            async with places:
                try:
                    outcome.answer = await ask(Asking(EVERY[name], word_of(ask), client, lax, patient))
                except Exception as fault:
                    outcome.fault = fault

        await asyncio.gather(*(one(ask, name) for ask, name in cases))
    for ask, name in cases:
        words = {word_of(ask)} if ask is not vary else set()
        outcome = found[ask.__name__, name]
        outcome.seen += [seen for seen in stage.submits(name) if words_in(seen) == words]
        outcome.pictures += [received(seen, stage.fakes[name]) for seen in outcome.seen]
    return found


def client_of(stage: Stage, strict: bool = True, retries: int = 2) -> AsyncOpenAI:
    """A client as its makers ship it, whose requests are counted, its own retries included."""

    async def count(_: httpx.Request) -> None:
        CURRENT.get().asked += 1

    return AsyncOpenAI(
        base_url=stage.server.base_url, api_key=KEY, max_retries=retries, timeout=90,
        _strict_response_validation=strict,
        http_client=DefaultAsyncHttpxClient(trust_env=False, verify=False, event_hooks={"request": [count]}),
    )  # fmt: skip


def word_of(ask: Ask) -> str:
    return f"case-{ask.__name__}"


def words_in(seen: Seen) -> set[str]:
    return {word.decode() for word in re.findall(rb"case-\w+", seen.body)}


# ---- pictures that are sent


@cache
def three(size: Size) -> tuple[bytes, ...]:
    return photo((200, 0, 0), size), photo((0, 200, 0), size, "JPEG"), photo((0, 0, 200), size)


def given(to: Asking) -> bytes:
    """The picture that is sent where one is."""
    return three(to.fake.photo)[0]


def as_many(fake: type[Fake]) -> list[bytes]:
    """Three, or as many as the model takes of them; three also where it takes only one."""
    most = caps_of(fake.name, fake.fuses or fake.edits).max_images
    return [*three(fake.photo)[: most if most > 1 else 3]]


# ---- judgement


@cache
def caps_of(provider: str, model: str | None) -> Caps:
    """What the model can do, as the fake's entry in the configuration has it."""
    entry, flaws = EVERY[provider](url="http://127.0.0.1").config(), list[str]()
    configured = providers.provider(provider, entry, {}, flaws)
    assert not flaws
    assert configured
    caps = abilities.caps_of(configured, model or "", providers.pictures(configured.translator))
    assert caps, "the fake names a model that is none"
    return caps


def arrived(outcome: Outcome, provider: str, pictures: Sequence[bytes] = (), times: int = 1) -> None:
    """That the provider was asked so often, with these pictures, byte by byte and in their order."""
    assert [sums(each) for each in outcome.pictures] == [sums(pictures)] * (times if EVERY[provider].wired else 0)


every = pytest.mark.parametrize("provider", EVERY)
wired = pytest.mark.parametrize("provider", WIRED)
keyed = pytest.mark.parametrize("provider", KEYED)
editing = pytest.mark.parametrize("provider", EDITING)


def test_every_provider_has_a_fake() -> None:
    assert [*EVERY] == [*NAMES]


@every
def test_a_fake_shows_all_that_its_provider_can(provider: str) -> None:
    fake, models = EVERY[provider], load(provider).MODELS.values()
    written = [caps for caps in models if caps.prompt_chars]  # the others cannot be asked by an OpenAI client's words
    assert (fake.edits is not None) == any("edit" in caps.ops for caps in models)
    assert (fake.masks is not None) == any(caps.mask != "none" for caps in written)
    assert (fake.fuses is not None) == any(caps.max_images > 1 for caps in written)
    varies = "variation" in caps_of(provider, fake.varies or fake.edits or fake.generates).ops
    assert varies == any("variation" in caps.ops for caps in models)


@every
def test_generate(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["generate", provider]
    (picture,) = check(outcome.got())
    assert picture.width == picture.height
    arrived(outcome, provider)


@every
def test_formats(outcomes: Outcomes, provider: str) -> None:
    for word in ("webp", "png"):
        (picture,) = check(outcomes[word, provider].got())
        assert picture.format == word.upper()


@editing
def test_format_of_an_edit(outcomes: Outcomes, provider: str) -> None:
    (picture,) = check(outcomes["jpeg", provider].got())
    assert picture.format == "JPEG"


@every
def test_generate_as_link(outcomes: Outcomes, provider: str) -> None:
    response, whole, part = outcomes["link", provider].got()
    assert response.data[0].b64_json is None
    assert "/v1/outputs/" in response.data[0].url
    assert whole.status_code == 200
    assert whole.headers["content-type"] == f"image/{response.output_format}"
    assert measured(opened(whole.content)) == (response.size, response.output_format)
    assert (part.status_code, part.content) == (206, whole.content[5:25])


@every
def test_three_pictures(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["three_of_them", provider]
    check(outcome.got(), 3)
    arrived(outcome, provider, times=math.ceil(3 / caps_of(provider, EVERY[provider].generates).max_n))


@editing
def test_edit(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["edit", provider]
    check(outcome.got())
    arrived(outcome, provider, three(EVERY[provider].photo)[:1])


@pytest.mark.parametrize("provider", [name for name in EVERY if name not in EDITING])
def test_what_cannot_edit_says_so(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["edit", provider]
    assert outcome.raised(openai.BadRequestError).param == "model"
    assert not outcome.seen


@editing
def test_edit_with_a_mask(outcomes: Outcomes, provider: str) -> None:
    """The transparent half is the one to edit, in whatever way that provider says so. Without a way: refused."""
    fake, outcome = EVERY[provider], outcomes["mask", provider]
    if fake.masks is None:
        assert outcome.raised(openai.BadRequestError).param == "mask"
        assert not outcome.seen
        return
    (picture,) = check(outcome.got())
    original = three(fake.photo)[0]
    if not fake.wired:
        kept = (fake.photo[0] // 2, 0, *fake.photo)
        assert ImageChops.difference(picture.convert("RGB"), opened(original)).crop(kept).getbbox() is None
        return
    (pictures,) = outcome.pictures
    first, second = reversed(pictures) if fake.mask_first else pictures
    assert sums([first]) == sums([original])
    assert polarity(second, fake.photo) == fake.mask_rule


def polarity(data: bytes, size: Size) -> MaskRule:
    """How a mask says that its left half is to be edited."""
    image = opened(data)
    assert image.size == size
    left, right = (10, 10), (size[0] - 10, 10)
    if "A" in image.getbands() and image.getchannel("A").getextrema() == (0, 255):
        assert (image.getchannel("A").getpixel(left), image.getchannel("A").getpixel(right)) == (0, 255)
        return "alpha"
    plain = image.convert("L")
    white = (plain.getpixel(left), plain.getpixel(right)) == (255, 0)
    assert white or (plain.getpixel(left), plain.getpixel(right)) == (0, 255)
    return "white-edits" if white else "black-edits"


@editing
def test_edit_several_pictures(outcomes: Outcomes, provider: str) -> None:
    fake, outcome = EVERY[provider], outcomes["several", provider]
    if fake.fuses is None:
        assert outcome.raised(openai.BadRequestError).param == "image"
        assert not outcome.seen
        return
    check(outcome.got())
    arrived(outcome, provider, as_many(fake))


@editing
def test_variation(outcomes: Outcomes, provider: str) -> None:
    fake, outcome = EVERY[provider], outcomes["vary", provider]
    if "variation" not in caps_of(provider, fake.varies or fake.edits).ops:
        assert outcome.raised(openai.BadRequestError).param == "model"
        assert not outcome.seen
        return
    check(outcome.got())
    arrived(outcome, provider, three(fake.photo)[:1])


@wired
def test_a_prompt_arrives_as_it_is(outcomes: Outcomes, provider: str) -> None:
    for way in ("odd_prompt", "odd_prompt_of_an_edit") if provider in EDITING else ("odd_prompt",):
        outcome = outcomes[way, provider]
        check(outcome.got())
        assert [any(PROMPT in text for text in texts(seen)) for seen in outcome.seen] == [True]


# ---- streaming


def check_events(provider: str, name: str, outcome: Outcome) -> Any:
    """Previews, then what was made, all of them pictures that are what they say. The last event."""
    headers, events = outcome.got()
    fake = EVERY[provider]
    assert headers["x-request-id"].startswith("req_")
    assert [event.type for event in events] == [f"{name}.partial_image"] * (len(events) - 1) + [f"{name}.completed"]
    assert len(events) - 1 <= 2 if fake.previews is None else len(events) - 1 == fake.previews
    assert [event.partial_image_index for event in events[:-1]] == list(range(len(events) - 1))
    for event in events:
        assert measured(decoded(event.b64_json)) == (event.size, event.output_format)
    assert events[-1].usage or not fake.counts
    return events[-1].to_dict()


@every
def test_stream_a_generation(outcomes: Outcomes, provider: str) -> None:
    last = check_events(provider, "image_generation", outcomes["stream", provider])
    if EVERY[provider].counts:
        ImageGenCompletedEvent.model_validate(last)


@editing
def test_stream_an_edit(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["stream_of_an_edit", provider]
    last = check_events(provider, "image_edit", outcome)
    if EVERY[provider].counts:
        ImageEditCompletedEvent.model_validate(last)
    assert last["output_format"] == "png"
    arrived(outcome, provider, three(EVERY[provider].photo)[:1])


# ---- errors


@every
def test_a_refusal(outcomes: Outcomes, provider: str) -> None:
    """The client would repeat what may be repeated: a refusal is not, neither by it nor by us."""
    outcome = outcomes["refusal", provider]
    fault = outcome.raised(openai.BadRequestError)
    assert fault.code in {"moderation_blocked", "content_policy_violation"}
    assert fault.type == "image_generation_user_error"
    assert fault.request_id
    assert outcome.asked == 1
    assert len(outcome.seen) == EVERY[provider].wired


@wired
def test_a_rate_limit(outcomes: Outcomes, provider: str) -> None:
    """Waited for, a few times, unless the provider asks for a long pause; then the client hears of both."""
    outcome = outcomes["limit", provider]
    fault, pause = outcome.raised(openai.RateLimitError), EVERY[provider].pause_ms
    assert fault.code
    told = fault.response.headers
    assert told.get("retry-after-ms") == (None if pause is None else str(pause))
    assert told.get("retry-after") == (None if pause is None else str(math.ceil(pause / 1000)))
    assert len(outcome.seen) == (3 if (pause or 0) <= 5000 else 1)


@keyed
def test_a_wrong_key_of_ours(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["wrong_key", provider]
    fault = outcome.raised(openai.AuthenticationError)
    assert fault.code != "invalid_api_key", "the client's own key is good"
    assert fault.code in {"provider_auth_failed", "invalid_grant"}
    assert "wro" not in str(fault).replace("wrong-", ""), "nor is ours shown"
    assert len(outcome.seen) <= 1, "where a login goes before, none"


@wired
def test_a_server_error(outcomes: Outcomes, provider: str) -> None:
    outcome = outcomes["failure", provider]
    assert outcome.raised(openai.InternalServerError).type == "server_error"
    assert len(outcome.seen) == 1


@wired
def test_emptiness_is_no_success(outcomes: Outcomes, provider: str) -> None:
    """Tried once more by us, since it may pass; not by the client, which would pay for it again."""
    outcome = outcomes["emptiness", provider]
    fault = outcome.raised(openai.InternalServerError)
    assert (fault.status_code, fault.type) == (502, "server_error")
    assert outcome.asked == 1
    assert len(outcome.seen) == 2
