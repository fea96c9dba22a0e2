from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai import DefaultHttpxClient, OpenAI
from openai.types import Video as OpenAIVideo
from PIL import Image

from proxy.ask import Link
from proxy.decide import Note
from proxy.pixels import Pixels
from proxy.state import ids
from proxy.state.records import Task
from proxy.video import answer
from proxy.video.answer import described, page, request_of, status_of, task_id, video_id
from proxy.video.ask import VideoAsk
from proxy.video.plan import Expected
from proxy.video.prepare import as_clip, check_clip, fitted, prepare
from tests import pictures
from translators.base import Fault, Media, blob
from translators.video import VideoCaps, VideoJob

ASK = VideoAsk(
    prompt="a cat", model="lab/m", seconds=8, size="1280x720", first=Link("https://x", "input_reference"),
    negative_prompt="dog", metadata={"project": "p"}, webhook_url="https://x/hook",
)  # fmt: skip
TOLD = Expected(8, (1280, 720))
ROW = Task(
    id="task_019aa0f0b2c87e5f9a3b", key="key_1", created=1_790_000_000_500, op="video", asked="lab/m", worker="w",
    model="lab/m", request=request_of(ASK, TOLD, prompts=True), metadata={"project": "p"},
)  # fmt: skip
DONE = replace(
    ROW, status="completed", ended=1_790_000_090_900, cost=1_200_000,
    result={
        "outputs": [{"id": "output_1", "type": "video/mp4", "width": 720, "height": 1280, "seconds": 5.042}],
        "notes": [{"param": "seconds", "action": "noted", "text": "seconds 8 -> 5"}],
    },
)  # fmt: skip
FAILED = replace(
    ROW, status="failed", ended=1_790_000_090_900,
    error={"kind": "policy", "code": None, "message": "No.", "param": None},
)  # fmt: skip

# --- ids --------------------------------------------------------------------------------------------------------------


def test_a_video_and_its_task_have_the_same_id() -> None:
    task = ids.new("task_")
    assert video_id(task).startswith("video_")
    assert task_id(video_id(task)) == task


@pytest.mark.parametrize("name", ["", "video_", "task_1", "video_1/..", "video_ü", "Video_1", "video_1 ", "x" * 9999])
def test_what_is_no_id_of_a_video(name: str) -> None:
    with pytest.raises(Fault) as caught:
        task_id(name)
    assert caught.value.kind == "missing"
    assert len(caught.value.message) < 200


@given(st.text())
def test_an_id_leads_to_a_task_or_nowhere(name: str) -> None:
    try:
        assert video_id(task_id(name)) == name
    except Fault as fault:
        assert fault.kind == "missing"


# --- the row ----------------------------------------------------------------------------------------------------------


def test_what_a_row_says_of_a_request() -> None:
    assert ROW.request == {
        "prompt": "a cat", "seconds": 8, "size": "1280x720", "negative_prompt": "dog", "task": "create", "n": 1,
        "images": 1, "expected": {"seconds": 8, "size": "1280x720"},
    }  # fmt: skip
    assert {"prompt", "negative_prompt"}.isdisjoint(request_of(ASK, TOLD, prompts=False))
    remix = VideoAsk(task="remix", prompt="x", origin="video_1")
    assert request_of(remix, Expected(None, (1, 2)), prompts=True) == {
        "prompt": "x", "task": "remix", "origin": "video_1", "n": 1, "expected": {"seconds": None, "size": "1x2"},
    }  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(ROW.request)) == ROW.request


# --- the answer -------------------------------------------------------------------------------------------------------


def told(task: Task, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(described(task, **more))
    return found


def test_a_video_that_waits_or_is_being_made() -> None:
    assert told(replace(ROW, status="queued")) == {
        "id": "video_019aa0f0b2c87e5f9a3b", "object": "video", "model": "lab/m", "status": "queued", "progress": 0,
        "created_at": 1_790_000_000, "completed_at": None, "expires_at": None, "prompt": "a cat", "size": "1280x720",
        "seconds": "8", "remixed_from_video_id": None, "error": None, "served_by": "lab/m", "cost_usd": None,
        "adjusted": [], "metadata": {"project": "p"},
    }  # fmt: skip
    assert [told(ROW, progress=given)["progress"] for given in (None, -5, 42, 100)] == [0, 0, 42, 99]


def test_a_video_that_is_there_is_told_as_it_was_delivered() -> None:
    video = told(DONE, progress=50, retention=86_400.0)
    assert (video["status"], video["progress"], video["completed_at"]) == ("completed", 100, 1_790_000_090)
    assert (video["size"], video["seconds"], video["cost_usd"]) == ("720x1280", "5", 1.2)
    assert (video["expires_at"], video["adjusted"]) == (1_790_086_490, ["seconds 8 -> 5"])
    assert told(DONE)["expires_at"] is None


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        (FAILED, "moderation_blocked", "No."), (replace(FAILED, status="cancelled"), "cancelled", "was cancelled"),
        (replace(FAILED, error={"kind": "upstream", "code": None, "message": "Broken.", "param": None}), "upstream",
         "Broken."),
        (replace(ROW, status="cancelled"), "cancelled", "was cancelled"),
    ],
)  # fmt: skip
def test_a_video_that_is_not_made(task: Task, code: str, message: str) -> None:
    video = told(task, progress=40)
    assert (video["status"], video["completed_at"], video["progress"]) == ("failed", None, 40)
    assert video["error"]["code"] == code
    assert message in video["error"]["message"]


@pytest.mark.parametrize(("task", "from_id"), [("remix", "video_1"), ("edit", "video_1"), ("extend", None)])
def test_what_a_remix_was_made_of(task: Any, from_id: str | None) -> None:
    ask = VideoAsk(task=task, prompt="x", origin="video_1")
    row = replace(ROW, request=request_of(ask, TOLD, prompts=True))
    assert described(row).remixed_from_video_id == from_id


def test_what_nobody_knows_is_said_so() -> None:
    video = told(replace(ROW, request={}))
    assert (video["prompt"], video["size"], video["seconds"]) == (None, "auto", "auto")
    assert told(replace(ROW, request={"expected": {"seconds": None, "size": "1x2"}, "seconds": 4}))["seconds"] == "4"


def test_a_page() -> None:
    assert msgspec.to_builtins(page([], more=False)) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip
    videos = [described(DONE), described(replace(ROW, id="task_2"))]
    got = page(videos, more=True)
    assert (got.first_id, got.last_id, got.has_more) == (videos[0].id, "video_2", True)


# --- what OpenAI's own client makes of it, held against its types -----------------------------------------------------


class Videos(BaseHTTPRequestHandler):
    """Answers as the routes do."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        body = msgspec.json.encode(self.answers[self.path.partition("?")[0]])
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Videos) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        with OpenAI(
            api_key="k", base_url=f"http://127.0.0.1:{server.server_port}/v1", _strict_response_validation=True,
            http_client=DefaultHttpxClient(trust_env=False, verify=False),
        ) as client:  # fmt: skip
            yield client
        server.shutdown()
        thread.join()


pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.mark.parametrize(
    "task", [ROW, replace(ROW, status="queued"), DONE, FAILED, replace(FAILED, status="cancelled")]
)
def test_the_strict_client_takes_a_video(client: OpenAI, task: Task) -> None:
    video = described(task, retention=60.0)
    Videos.answers = {f"/v1/videos/{video.id}": video}
    got: OpenAIVideo = client.videos.retrieve(video.id)
    assert got.to_dict() == msgspec.to_builtins(video)
    assert got.status == status_of(task)
    if task.ended:
        assert client.videos.poll(video.id).status == got.status


def test_the_strict_client_takes_lists_and_deletions(client: OpenAI) -> None:
    videos = [described(DONE), described(FAILED)]
    Videos.answers = {
        "/v1/videos": page(videos, more=False), "/v1/videos/video_1": answer.VideoDeleted(id="video_1"),
    }  # fmt: skip
    assert [each.status for each in client.videos.list()] == ["completed", "failed"]
    assert client.videos.delete("video_1").deleted


# --- pictures and clips as the model takes them -----------------------------------------------------------------------

CAPS = VideoCaps(first=True, last=True, references=2, input_types=("image/jpeg",), input_edge=(100, 640))


def picture(width: int, height: int, kind: str = "PNG") -> Media:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, kind)
    return Media(blob=blob(out.getvalue()), type=f"image/{kind.lower()}", width=width, height=height)


def job(**members: Any) -> VideoJob:
    return VideoJob(op="video", model="m", **members)


def made(job: VideoJob, caps: VideoCaps = CAPS) -> tuple[VideoJob, list[str]]:
    done, notes = fitted(job, caps)
    return done, [note.text for note in notes]


def test_pictures_are_made_to_fit() -> None:
    done, notes = made(job(first=picture(1280, 720), last=picture(640, 360, "JPEG"), references=(picture(200, 200),)))
    assert done.first is not None
    assert (done.first.type, done.first.width, done.first.height) == ("image/jpeg", 640, 360)
    assert done.references[0].type == "image/jpeg"
    assert notes == [
        "input_reference 1280x720 -> 640x360, image/png -> image/jpeg",
        "reference_images[0] image/png -> image/jpeg",
    ]
    again, silence = made(done)
    assert again is done
    assert silence == []


@pytest.mark.parametrize(
    ("members", "param"),
    [({"first": picture(50, 50)}, "input_reference"), ({"last": picture(50, 50)}, "last_frame"),
     ({"references": (picture(200, 200), picture(50, 50))}, "reference_images[1]")],
)  # fmt: skip
def test_a_picture_that_is_too_small(members: Mapping[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        made(job(**members))
    assert (caught.value.code, caught.value.param) == ("image_too_small", param)


@pytest.mark.parametrize(("size", "got"), [((720, 405), (1280, 720)), ((400, 400), (400, 400))])
def test_a_first_frame_of_the_videos_shape_gets_its_size(size: tuple[int, int], got: tuple[int, int]) -> None:
    caps = VideoCaps(first=True, sizes=((1280, 720),))
    done, _ = made(job(first=picture(*size), size=(1280, 720)), caps)
    assert done.first is not None
    assert (done.first.width, done.first.height) == got


async def test_pictures_are_prepared_beside_the_loop() -> None:
    pixels = Pixels(1)
    try:
        plain = job(clip=pictures.media("clip.mp4"))
        assert await prepare(plain, CAPS, pixels) == (plain, ())
        done, notes = await prepare(job(first=picture(200, 200)), CAPS, pixels)
        assert done.first is not None
        assert notes == (Note("input_reference", "converted", "input_reference image/png -> image/jpeg"),)
        with pytest.raises(Fault, match="at most 9"):
            await prepare(plain, VideoCaps(clip_bytes=9), pixels)
    finally:
        pixels.close()


def test_clips_are_known_by_their_first_bytes() -> None:
    clip = as_clip(blob(pictures.data("clip.mp4")))
    assert clip.type == "video/mp4"
    check_clip(clip, CAPS)
    with pytest.raises(Fault) as caught:
        as_clip(blob(pictures.data("red.png")))
    assert (caught.value.code, caught.value.param) == ("unsupported_file_mimetype", "video")
    webm = as_clip(blob(b"\x1aE\xdf\xa3" + bytes(20)))
    with pytest.raises(Fault, match="video/webm"):
        check_clip(webm, CAPS)
    check_clip(webm, VideoCaps(clip_types=("video/webm",)))
