"""`/v1/videos` over a real socket: whose a video is, what is wrong with a request, its file, who may change it."""

from __future__ import annotations

import base64
import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import openai
import pytest
from aiohttp import web
from msgspec.structs import replace
from openai import AzureOpenAI, DefaultHttpxClient, OpenAI
from openai.types import Video
from PIL import Image

from proxy.catalog import Credential
from proxy.route import acquainted
from tests.fakes import openai_video
from tests.fakes.base import running
from tests.fakes.openai import Refused, refusal
from tests.server import KEY, ROOT, Server, serving
from tests.stage import photo
from tests.stores import S3
from tests.test_docs import blocks
from translators.base import Fault, Media, Secret, blob
from translators.video import VideoJob

PAGE = ROOT / "docs/video.md"
NODE = ROOT / "tests/node"
OTHER = "another-client-key"
NEVER = "never"

# of the client itself, which says it of all videos
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@dataclass
class Accounts(openai_video.OpenAIVideo):
    """A server of OpenAI's shape with two accounts, neither of which knows the videos of the other.

    What has `never` in its prompt is never done.
    """

    keys: ClassVar[tuple[str, ...]] = ("first-account", "second-account")
    owners: dict[str, str] = field(default_factory=dict)

    def answer(self, handler: Any) -> Any:
        async def answered(request: web.Request) -> web.StreamResponse:
            key = request.headers.get("Authorization", "").removeprefix("Bearer ")
            named = request.match_info.get("id") or self.named(await request.read())
            try:
                if key not in self.keys:
                    raise Refused("Incorrect API key provided.", code="invalid_api_key", status=401)
                if named and self.owners.get(named) != key:
                    raise Refused(f"Video with id '{named}' not found.", code=None, status=404)
                before = {*self.works}
                response: web.StreamResponse = await handler(request)
            except Refused as refused:
                return refusal(refused)
            self.owners |= dict.fromkeys({*self.works} - before, key)
            return response

        return answered

    def named(self, body: bytes) -> str | None:
        """The video in a body."""
        found = re.search(rb'"id":"(video_\w+)"', body)
        return found[1].decode() if found else None

    async def poll(self, request: web.Request) -> web.Response:
        _, work = self.work(request)
        if NEVER in work.ask.prompt:
            work.polls = 0
        return await super().poll(request)


@dataclass(frozen=True)
class Stage:
    """A running server and its upstream."""

    server: Server
    fake: Accounts


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    fake = Accounts()
    entry = {
        "translator": "openai", "base_url": "", "models": {"sora-2": {"type": "video"}},
        "keys": [{"api_key": key} for key in fake.keys], "timeouts": {"poll": 0.02},
    }  # fmt: skip
    keys = [{"name": "tests", "key": KEY, "admin": True}, {"name": "other", "key": OTHER}]
    cached = {"targets": ["demo/animation"], "cache": {"seconds": 600, "shared": True}}
    with ExitStack() as stack:
        stack.enter_context(running(fake))
        entry["base_url"] = f"{fake.url}/v1"
        server = stack.enter_context(
            serving(
                tmp_path_factory.mktemp("videos_api"), {"lab": entry, "demo": {}},
                auth={"mode": "keys", "keys": keys},
                models={"sora-2": ["lab/sora-2"], "small": ["demo/animation"], "cached": cached},
                limits={"body_bytes": 3_000_000},
            )
        )  # fmt: skip
        yield Stage(server, fake)
        assert not fake.broken, fake.broken[0]
        log = server.log.read_text()
        assert '"level":"error"' not in log, log
        assert not [key for key in (KEY, OTHER, *fake.keys) if key in log]


def client_of(stage: Stage, key: str = KEY, retries: int = 0) -> OpenAI:
    return OpenAI(
        base_url=stage.server.base_url, api_key=key, max_retries=retries, timeout=60,
        _strict_response_validation=True, http_client=DefaultHttpxClient(trust_env=False),
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[OpenAI]:
    with client_of(stage) as found:
        yield found


@pytest.fixture(scope="module")
def stranger(stage: Stage) -> Iterator[OpenAI]:
    with client_of(stage, OTHER) as found:
        yield found


def made(client: OpenAI, prompt: str = "a hill", model: str = "small", **more: Any) -> Video:
    """A video, to its end. The client holds its members against OpenAI's own types."""
    asked: dict[str, Any] = {"seconds": "4", "size": "1280x720", **more}
    return client.videos.create_and_poll(model=model, prompt=prompt, poll_interval_ms=50, **asked)


@pytest.fixture(scope="module")
def video(client: OpenAI) -> Video:
    return made(client)


@pytest.fixture(scope="module")
def unfinished(client: OpenAI) -> Video:
    return client.videos.create(model="sora-2", prompt="never", seconds="4", size="1280x720")


def raw(stage: Stage, path: str, method: str = "GET", key: str = KEY, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx.request(method, f"{stage.server.base_url}{path}", headers=headers, trust_env=False, **more)


# ---- what is told


def test_what_a_creation_tells(client: OpenAI, stage: Stage) -> None:
    """It is there at once, with its task, what is different from the wish, and when to ask again."""
    raw = client.videos.with_raw_response.create(
        model="sora-2", prompt="a cat", seconds="8", size="1792x1024", extra_body={"camera": "fixed"}
    )
    begun = raw.parse()
    assert raw.status_code == 200
    assert begun.status in {"queued", "in_progress"}
    assert (begun.seconds, begun.size) == ("8", "1280x720")
    assert raw.headers["x-pictor-task"] == begun.id.replace("video_", "task_")
    assert raw.headers["x-pictor-adjusted"] == "camera left out; size 1792x1024 -> 1280x720"
    assert int(raw.headers["openai-poll-after-ms"]) >= 1000
    assert int(raw.headers["retry-after"]) >= 1
    done = client.videos.poll(begun.id, poll_interval_ms=50)
    assert done.status == "completed"
    again = client.videos.with_raw_response.retrieve(begun.id)
    assert "openai-poll-after-ms" not in again.headers
    assert again.headers["x-pictor-model"] == "lab/sora-2"


def test_waiting_for_the_end(stage: Stage) -> None:
    """`Prefer: wait` answers once it is done; and no later than is wished for."""
    body = {"model": "small", "prompt": "a hill", "seconds": 1}
    done = raw(stage, "/videos", "POST", json=body, headers={"Prefer": "wait=30"})
    assert done.json()["status"] == "completed"
    late = raw(stage, "/videos", "POST", json=body | {"model": "sora-2", "prompt": NEVER}, headers={"Prefer": "wait=1"})
    assert late.json()["status"] == "in_progress"


@pytest.mark.parametrize("number", [4, "4"])
def test_json(stage: Stage, number: object) -> None:
    answer = raw(stage, "/videos", "POST", json={"model": "small", "prompt": "a hill", "seconds": number})
    assert (answer.status_code, answer.json()["seconds"]) == (200, "4")


def test_the_same_key_is_the_same_video(stage: Stage) -> None:
    body = {"model": "small", "prompt": "once", "seconds": 1}
    key = {"Idempotency-Key": "once"}
    first = raw(stage, "/videos", "POST", json=body, headers={**key, "Prefer": "wait=30"}).json()
    second = raw(stage, "/videos", "POST", json=body, headers=key).json()
    assert (second["id"], second["status"]) == (first["id"], "completed")
    other = raw(stage, "/videos", "POST", json=body | {"prompt": "twice"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_cached_videos(stage: Stage) -> None:
    """The same request is the same video, as long as that is there; of another key it is none."""
    body = {"model": "cached", "prompt": "again", "seconds": 1}
    wait = {"Prefer": "wait=30"}
    first, second = (raw(stage, "/videos", "POST", json=body, headers=wait) for _ in range(2))
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["x-pictor-cache"] == "hit"
    other = raw(stage, "/videos", "POST", json=body, headers=wait, key=OTHER)
    assert (other.json()["status"], other.json()["id"] != first.json()["id"]) == ("completed", True)
    assert raw(stage, f"/videos/{first.json()['id']}", "DELETE").status_code == 200
    third = raw(stage, "/videos", "POST", json=body, headers=wait)
    assert (third.json()["status"], third.json()["id"] != first.json()["id"]) == ("completed", True)


def test_prompts_that_are_not_kept(tmp_path: Path) -> None:
    """Nowhere in what is left of a video, whatever its maker knows it by."""
    with serving(tmp_path, history={"prompts": False}) as server:
        stage = Stage(server, Accounts())
        body = {"prompt": "a quokka", "seconds": 1, "negative_prompt": "a wombat"}
        video = raw(stage, "/videos", "POST", json=body, headers={"Prefer": "wait=30"}).json()
        assert (video["status"], video["prompt"]) == ("completed", None)
    (path,) = (tmp_path / "data").glob("*.db")
    with sqlite3.connect(path) as database:
        kept = "\n".join(database.iterdump())
    assert video["id"].removeprefix("video_") in kept
    assert "quokka" not in kept
    assert "wombat" not in kept


def test_a_failure_is_told_of_the_video(stage: Stage) -> None:
    """It is no failure of the call, also where that waits; a failure that cost nothing leaves its key free."""
    body = {"model": "sora-2", "prompt": "fail me"}
    headers = {"Idempotency-Key": "failing", "Prefer": "wait=30"}
    first, second = (raw(stage, "/videos", "POST", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()["status"]) == (200, "failed")
    assert first.json()["error"]["type"] == "server_error"
    assert first.headers["preference-applied"] == "wait=30"
    assert (second.json()["status"], second.json()["id"] != first.json()["id"]) == ("failed", True)


def test_azure_client(stage: Stage) -> None:
    with AzureOpenAI(
        azure_endpoint=stage.server.address, api_key=KEY, api_version="2025-04-01-preview", max_retries=0,
        http_client=DefaultHttpxClient(trust_env=False),
    ) as azure:  # fmt: skip
        video = made(azure, seconds="4")
        assert video.status == "completed"
        assert azure.videos.download_content(video.id).read()[4:8] == b"ftyp"
        assert azure.videos.list(limit=1).data[0].id == video.id
        assert azure.videos.delete(video.id).deleted
    v1 = httpx.get(
        f"{stage.server.address}/openai/v1/videos?api-version=preview", headers={"api-key": KEY}, trust_env=False
    )
    assert v1.json()["object"] == "list"


# ---- the file


def test_content(client: OpenAI, stage: Stage, video: Video) -> None:
    path = f"/videos/{video.id}/content"
    whole = raw(stage, path)
    assert whole.headers["content-type"] == "video/mp4"
    assert int(whole.headers["content-length"]) == len(whole.content)
    head = raw(stage, path, "HEAD")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
    part = raw(stage, path, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"
    assert raw(stage, path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert client.videos.download_content(video.id).read() == whole.content


@pytest.mark.parametrize(("variant", "kind"), [("thumbnail", "WEBP"), ("spritesheet", "JPEG")])
def test_pictures_of_it(client: OpenAI, stage: Stage, video: Video, variant: Any, kind: str) -> None:
    """Made once, and kept; gone with the video: see `test_deletion`."""
    first = client.videos.download_content(video.id, variant=variant)
    assert first.response.headers["content-type"] == f"image/{kind.lower()}"
    data = first.read()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == kind
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.01)
    assert client.videos.download_content(video.id, variant=variant).read() == data
    part = raw(stage, f"/videos/{video.id}/content?variant={variant}", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, data[:10])


def files(stage: Stage) -> set[str]:
    """What is in the store."""
    folder = stage.server.config.parent / "data" / "files"
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_deletion(client: OpenAI, stage: Stage) -> None:
    """Its file goes, and the pictures beside it; it is listed no more."""
    before = files(stage)
    video = made(client)
    for variant in ("thumbnail", "spritesheet"):
        client.videos.download_content(video.id, variant=variant).read()
    assert len(files(stage) - before) == 3
    assert client.videos.delete(video.id).deleted
    assert not files(stage) - before
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    with pytest.raises(openai.NotFoundError):
        client.videos.delete(video.id)


@pytest.mark.parametrize("presign", [False, True])
def test_from_a_bucket(tmp_path: Path, s3: S3, presign: bool) -> None:
    """Through the server, or by the bucket's own link, to which no client takes its key."""
    files = {"store": f"s3://{s3.bucket}/x", "options": s3.options, "presign": presign}
    with serving(tmp_path, files=files) as server, client_of(Stage(server, Accounts())) as client:
        video = made(client, model="demo/animation")
        content = client.videos.download_content(video.id)
        assert content.response.headers["content-type"] == "video/mp4"
        assert bool(content.response.history) == presign
        assert content.read()[4:8] == b"ftyp"
        for variant in ("thumbnail", "spritesheet", "thumbnail"):
            assert client.videos.download_content(video.id, variant=variant).read()
        assert client.videos.delete(video.id).deleted
    assert "<Key>" not in httpx.get(f"{s3.endpoint}/{s3.bucket}", trust_env=False).text


# ---- lists


def test_pages(client: OpenAI, stage: Stage) -> None:
    """Of this key's videos alone; pictures are no videos."""
    for _ in range(3):
        made(client)
    client.images.generate(model="demo/painter", prompt="a cat", size="1024x1024")
    paged = [video.id for video in client.videos.list(limit=2)]
    page = raw(stage, "/videos?limit=100").json()
    assert paged == [video["id"] for video in page["data"]] == sorted(paged, reverse=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == (paged[0], paged[-1], False)
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == paged[::-1]
    assert raw(stage, f"/videos?limit=1&after={paged[0]}").json()["data"][0]["id"] == paged[1]
    assert len(raw(stage, "/videos?limit=0").json()["data"]) == min(len(paged), 20)


def test_videos_are_their_keys_own(stranger: OpenAI, video: Video) -> None:
    assert video.id not in [each.id for each in stranger.videos.list()]
    calls: list[Callable[[], object]] = [
        lambda: stranger.videos.retrieve(video.id), lambda: stranger.videos.download_content(video.id),
        lambda: stranger.videos.delete(video.id), lambda: stranger.videos.remix(video.id, prompt="mine"),
        lambda: stranger.post("/videos/extensions", cast_to=Video, body={"prompt": "x", "video": {"id": video.id}}),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(openai.NotFoundError, match=f"Video with id '{video.id}' not found"):
            call()


# ---- what is wrong

WRONG: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "no prompt": ({"prompt": openai.omit}, "prompt", "missing_required_parameter"),
    "an empty prompt": ({"prompt": ""}, "prompt", "empty_string"),
    "an unknown model": ({"model": "sora-99"}, "model", "invalid_value"),
    "a model that makes pictures": ({"model": "demo/painter"}, "model", "invalid_value"),
    "no size": ({"size": "large"}, "size", "invalid_value"),
    "no length": ({"seconds": "four"}, "seconds", "invalid_value"),
    "a length that nothing has": ({"seconds": "99999"}, "seconds", "integer_above_max_value"),
    "an unknown field": ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
    "no picture": ({"input_reference": b"text"}, "input_reference", "invalid_image_file"),
    "a last frame alone": (
        {"extra_body": {"last_frame": {"image_url": "http://127.0.0.1:9/x.png"}}}, "last_frame", "invalid_value",
    ),
    "what cannot be had, to the strict": (
        {"extra_body": {"camera": "fixed"}, "extra_headers": {"x-pictor-strict": "true"}}, "camera",
        "unsupported_parameter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests(client: OpenAI, stage: Stage, case: str) -> None:
    """Refused before anything is paid, with the parameter by its name."""
    given, param, code = WRONG[case]
    before = stage.fake.tasks
    asked: dict[str, Any] = {"model": "sora-2", "prompt": "a cat", **given}
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(**asked)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert stage.fake.tasks == before


def test_a_body_that_is_too_large(stage: Stage) -> None:
    with client_of(stage) as client, pytest.raises(openai.APIStatusError) as caught:
        client.videos.create(model="sora-2", prompt="a cat", input_reference=bytes(4_000_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_broken_json(stage: Stage) -> None:
    answer = raw(stage, "/videos", "POST", content=b'{"prompt": ', headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_wrong_key(stage: Stage) -> None:
    with client_of(stage, "nobody") as client:
        for call in (client.videos.list, lambda: client.videos.create(prompt="x"), lambda: client.videos.delete("x")):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("id", ["video_0123456789abcdef", "task_1", "video_ü"])
def test_an_unknown_id(client: OpenAI, id: str) -> None:
    for call in (client.videos.retrieve, client.videos.download_content, client.videos.delete):
        with pytest.raises(openai.NotFoundError):
            call(id)


def test_what_is_not_done_yet(client: OpenAI, unfinished: Video) -> None:
    with pytest.raises(openai.NotFoundError, match="is not ready yet"):
        client.videos.download_content(unfinished.id)
    with pytest.raises(openai.ConflictError) as caught:
        client.videos.delete(unfinished.id)
    assert caught.value.code == "task_running"
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.remix(unfinished.id, prompt="again")
    assert (refused.value.code, refused.value.param) == ("video_not_ready", "video")


def test_what_has_failed(client: OpenAI) -> None:
    failed = made(client, "refuse me", "sora-2")
    assert failed.status == "failed"
    assert failed.error
    assert failed.error.code == "moderation_blocked"
    with pytest.raises(openai.NotFoundError, match="It is failed"):
        client.videos.download_content(failed.id)
    assert client.videos.delete(failed.id).deleted


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=101", "limit"), ("order=up", "order"), ("after=x", "after"), ("page=2", "page"), ("limit=x", "limit")],
)
def test_wrong_lists(stage: Stage, query: str, param: str) -> None:
    answer = raw(stage, f"/videos?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_wrong_variant(stage: Stage, video: Video) -> None:
    error = raw(stage, f"/videos/{video.id}/content?variant=poster").json()["error"]
    assert (error["param"], error["code"]) == ("variant", "invalid_value")
    assert "'spritesheet'" in error["message"]


def test_characters(client: OpenAI) -> None:
    for call in (
        lambda: client.videos.create_character(name="Ann", video=b"x"),
        lambda: client.videos.get_character("char_1"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.code == "unsupported_operation"


# ---- changes


def test_the_account_that_made_it_changes_it(client: OpenAI, stage: Stage) -> None:
    """Whosever turn it is: the others do not know it."""
    ids = [made(client, f"video {number}", "sora-2").id for number in range(2)]
    assert len({*stage.fake.owners.values()}) == 2
    for id in ids * 2:
        remix = client.videos.remix(id, prompt="at night")
        assert remix.remixed_from_video_id == id
        assert client.videos.poll(remix.id, poll_interval_ms=50).status == "completed"


def test_an_account_that_is_gone() -> None:
    """The file will do, where there is one."""
    first, second = Credential("lab#1", Secret("a")), Credential("lab#2", Secret("b"))
    job = VideoJob(op="video", model="m", prompt="x", task="remix", origin={"id": "1", "credential": "lab#2"})
    assert acquainted([first, second], job) == ([second], job)
    with pytest.raises(Fault, match="'lab#2', which is not configured any more"):
        acquainted([first], job)
    filed = replace(job, clip=Media(blob=blob(b"clip"), type="video/mp4"))
    assert acquainted([first], filed) == ([first], replace(filed, origin={}))
    unsigned = replace(job, origin={"id": "1"})
    assert acquainted([first, second], unsigned) == ([first, second], unsigned)


def test_a_file_is_edited(client: OpenAI, stage: Stage, video: Video) -> None:
    """As the Python client sends it; it arrives as it was sent."""
    clip = client.videos.download_content(video.id).read()
    edited = client.videos.edit(prompt="at night", video=("clip.mp4", clip), extra_body={"model": "sora-2"})
    assert client.videos.poll(edited.id, poll_interval_ms=50).status == "completed"
    assert stage.fake.clips[-1] == clip


def test_what_its_maker_knows_it_by_is_not_shown(client: OpenAI, stage: Stage) -> None:
    """Nor with which credential it was made."""
    video = made(client, "a hill", "sora-2")
    (upstream,) = [id for id, work in stage.fake.works.items() if work.ask.prompt == "a hill"][-1:]
    for path in (f"/videos/{video.id}", f"/tasks/{video.id.replace('video_', 'task_')}", "/admin/tasks"):
        answer = raw(stage, path)
        assert answer.status_code == 200
        assert upstream not in answer.text
        assert "lab#" not in answer.text


def test_first_frames_in_json(stage: Stage) -> None:
    """By OpenAI's object, and as an address by itself."""
    frame = photo(size=(1280, 720))
    url = "data:image/png;base64," + base64.b64encode(frame).decode()
    for given in ({"image_url": url}, url):
        body = {"model": "sora-2", "prompt": "it moves", "size": "1280x720", "input_reference": given}
        answer = raw(stage, "/videos", "POST", json=body, headers={"Prefer": "wait=30"})
        assert answer.json()["status"] == "completed", answer.text
        assert stage.fake.received[-1] == frame


def test_the_schema_tells_of_it(stage: Stage) -> None:
    paths = httpx.get(f"{stage.server.address}/schema/openapi.json", trust_env=False).json()["paths"]
    body = paths["/v1/videos"]["post"]["requestBody"]["content"]
    assert {*body} == {"multipart/form-data", "application/json"}
    form = body["multipart/form-data"]["schema"]["properties"]
    assert form["input_reference"]["format"] == "binary"
    assert {"prompt", "seconds", "size", "last_frame", "reference_images", "camera"} <= form.keys()
    asked = paths["/v1/videos/{video_id}/content"]["get"]["parameters"]
    assert "variant" in {each["name"] for each in asked}


# ---- what is written


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As a reader has it after `make serve`: open, with the demo alone."""
    with serving(tmp_path_factory.mktemp("written"), auth={"mode": "open"}) as server:
        yield server


def copied(command: list[str], text: str, server: Server, folder: Path) -> str:
    """What the example prints; only the address in it, and where its files go, are others."""
    text = text.replace("http://127.0.0.1:8000", server.address).replace('"lighthouse.mp4"', f'"{folder}/made.mp4"')
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    where = NODE if "--input-type=module" in command else folder
    done = subprocess.run(
        command, input=text, cwd=where, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_documented_python(shop: Server, tmp_path: Path) -> None:
    first, second = blocks(PAGE, "python")
    assert copied([sys.executable, "-W", "ignore", "-"], first, shop, tmp_path) == "completed 1280x720 4\n"
    assert (tmp_path / "made.mp4").read_bytes()[4:8] == b"ftyp"
    assert copied([sys.executable, "-W", "ignore", "-"], second, shop, tmp_path) == "4 8\n"


def test_documented_node(node: str, shop: Server, tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "js")
    assert copied([node, "--input-type=module"], text, shop, tmp_path) == "completed 1280x720 4\n"
    assert (tmp_path / "made.mp4").read_bytes()[4:8] == b"ftyp"


def test_documented_curl(shop: Server, tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "sh")
    copied(["sh", "-es"], text, shop, tmp_path)
    assert (tmp_path / "lighthouse.mp4").read_bytes()[4:8] == b"ftyp"
    with Image.open(tmp_path / "lighthouse.webp") as image:
        assert image.format == "WEBP"


# ---- memory


@dataclass
class Large(openai_video.OpenAIVideo):
    """Its videos have 200 MB."""

    size: ClassVar[int] = 200_000_000

    async def content(self, request: web.Request) -> web.StreamResponse:  # type: ignore[override]  # a stream is one
        self.work(request)
        response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Content-Length": str(self.size)})
        await response.prepare(request)
        head = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
        rest = self.size - len(head) - 8
        await response.write(head + (rest + 8).to_bytes(4, "big") + b"mdat")
        piece = bytes(range(256)) * 4096
        while rest > 0:
            await response.write(piece[: min(rest, len(piece))])
            rest -= len(piece)
        await response.write_eof()
        return response


def peak(server: Server) -> int:
    """Bytes that the server has had in memory at most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_large_video_is_never_in_memory(tmp_path: Path) -> None:
    """It comes from its provider, goes to the store, and to the client."""
    fake = Large()
    with running(fake):
        entry = {
            "translator": "openai", "base_url": f"{fake.url}/v1", "api_key": "test-key", "timeouts": {"poll": 0.02},
            "models": {"sora-2": {"type": "video"}},
        }  # fmt: skip
        with serving(tmp_path, {"lab": entry, "demo": {}}) as server:
            stage = Stage(server, fake)  # type: ignore[arg-type]  # another fake
            with client_of(stage) as client:
                made(client, model="demo/animation")  # what is loaded at the first one
                before = peak(server)
                video = made(client, "a hill", "lab/sora-2")
                assert video.status == "completed", video.error
                size = 0
                with client.videos.with_streaming_response.download_content(video.id) as response:
                    for piece in response.iter_bytes():
                        size += len(piece)
            assert size == fake.size
            assert peak(server) - before < 80_000_000
