"""Made files over a real socket: whole, in ranges, small, and by the bucket's own links."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxy import config
from proxy.api import outputs, serving
from proxy.pixels import Pixels
from proxy.state.files import Files, thumbnail_path
from proxy.state.store import PIECE
from proxy.works import Works
from tests.asgi import served
from tests.films import filmed
from tests.pictures import data as picture
from tests.stores import S3
from translators.base import blob

NOON = 1_800_000_000.0
DAY = 86_400


class Clock:
    """Stands until it is told to move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Parts(NamedTuple):
    files: Files
    pixels: Pixels
    works: Works


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Files]:
    """A store of either kind."""
    settings = config.Files()
    if request.param == "s3":
        place: S3 = request.getfixturevalue("s3")
        settings = config.Files(store=f"s3://{place.bucket}", options=place.secrets)
    made = Files(tmp_path, settings, now=clock)
    yield made
    made.close()


@pytest.fixture
def pixels() -> Iterator[Pixels]:
    made = Pixels(2)
    yield made
    made.close()


@pytest.fixture
async def client(files: Files, pixels: Pixels) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served([outputs.output], Parts(files, pixels, Works())) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        yield client


RAW = secrets.token_bytes(3 * PIECE + 17)


async def link(files: Files, raw: bytes = RAW, type: str = "image/png", seconds: int = 600) -> str:
    id = await files.save(blob(raw), type)
    return f"/v1/outputs/{id}?{files.sign(id, int(NOON) + seconds)}"


def name(url: str) -> str:
    return url.split("/")[-1].split("?")[0]


async def test_the_whole_file(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    id = name(url)
    answer = await client.get(url)
    assert answer.status_code == 200
    assert answer.content == RAW
    told = dict(answer.headers)
    assert {name: told[name] for name in told if name not in {"date", "server", "last-modified"}} == {
        "content-type": "image/png",
        "content-length": str(len(RAW)),
        "etag": f'"{id}"',
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=600",
        "content-disposition": f'inline; filename="{id}"',
        "x-content-type-options": "nosniff",
    }
    head = await client.head(url, headers={"range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**told, "date": ""}


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("Bytes=1-2", 1, 3),
        ("bytes=-1", -1, None), ("bytes=-99999999", 0, None), ("bytes=10-99999999", 10, None),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1),
    ],
)  # fmt: skip
async def test_one_range(files: Files, client: httpx.AsyncClient, asked: str, start: int, stop: int | None) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    wanted = RAW[start:stop]
    assert answer.status_code == 206
    assert answer.content == wanted
    first = range(len(RAW))[start:stop].start
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(RAW)}"


@pytest.mark.parametrize("asked", [f"bytes={len(RAW)}-", "bytes=99999999-999999999", "bytes=-0"])
async def test_a_range_behind_the_end(files: Files, client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{len(RAW)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "bytes", "bytes=a-b"])
async def test_what_is_no_single_range_gets_the_whole(files: Files, client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(await link(files), headers={"range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(RAW))


async def test_a_client_that_has_it_already(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    known = await client.get(url)
    tag, date = known.headers["etag"], known.headers["last-modified"]
    later, sooner = (formatdate(NOON + days * DAY, usegmt=True) for days in (3650, -36500 // 2))
    for headers, status in (
        ({"if-none-match": tag}, 304),
        ({"if-none-match": f'"x", W/{tag}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": '"x"', "if-modified-since": date}, 200),
        ({"if-modified-since": date}, 304),
        ({"if-modified-since": later}, 304),
        ({"if-modified-since": sooner}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": tag, "range": "bytes=0-1"}, 304),
        ({"if-range": tag, "range": "bytes=0-1"}, 206),
        ({"if-range": date, "range": "bytes=0-1"}, 206),
        ({"if-range": f"W/{tag}", "range": "bytes=0-1"}, 200),
        ({"if-range": later, "range": "bytes=0-1"}, 200),
    ):
        answer = await client.get(url, headers=headers)
        assert answer.status_code == status, headers
        assert answer.headers["etag"] == tag
        assert (answer.content == b"") == (status == 304)


async def test_a_drawing_runs_no_script(files: Files, client: httpx.AsyncClient) -> None:
    answer = await client.get(await link(files, b"<svg/>", "image/svg+xml"))
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].endswith("sandbox")


async def test_links_that_do_not_open(files: Files, client: httpx.AsyncClient, clock: Clock) -> None:
    url = await link(files, seconds=5)
    bare = url.partition("?")[0]
    for wrong in (bare, bare + "?expires=9999999999", url + "x", url.replace("expires=1", "expires=2")):
        for answer in (await client.get(wrong), await client.head(wrong)):
            assert answer.status_code == 403
        assert (await client.get(wrong)).json()["error"]["code"] == "invalid_signature"
    clock.now += 6
    assert (await client.get(url)).json()["error"]["code"] == "link_expired"


async def test_a_good_link_to_what_was_deleted(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    await files.delete([name(url)])
    answer = await client.get(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "output_not_found")


async def test_many_readers_at_once(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files)
    answers = await asyncio.gather(*(client.get(url) for _ in range(12)))
    assert all(answer.content == RAW for answer in answers)


async def test_a_client_that_hangs_up(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, bytes(64 * PIECE))
    async with client.stream("GET", url) as answer:
        async for _ in answer.aiter_raw():
            break
    assert (await client.get(await link(files))).content == RAW


@given(st.text(max_size=40), st.integers(0, 10**6))
def test_any_range_header_is_read(header: str, size: int) -> None:
    for asked in (header, f"bytes={header}"):
        found = serving.span(asked, size)
        assert found is None or 0 <= found.start <= found.stop <= size


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.png", 'attachment; filename="a.png"'),
        ("été 2026.png", "attachment; filename=\"_t_ 2026.png\"; filename*=UTF-8''%C3%A9t%C3%A9%202026.png"),
        ('a"b\\c.png', "attachment; filename=\"a_b_c.png\"; filename*=UTF-8''a%22b%5Cc.png"),
        ("100%.png", "attachment; filename=\"100_.png\"; filename*=UTF-8''100%25.png"),
    ],
)
def test_the_name_under_which_a_browser_saves(name: str, wanted: str) -> None:
    assert serving.disposition(name, attached=True) == wanted


# --- thumbnails


def drawn(width: int, height: int, kind: str, orientation: int = 1) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, kind, exif=exif)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("kind", "size", "side", "wanted"),
    [
        ("PNG", (2000, 1000), 256, (256, 128)), ("JPEG", (1000, 2000), 512, (256, 512)),
        ("WEBP", (1500, 1500), 1024, (1024, 1024)), ("PNG", (90, 60), 256, (90, 60)),
        ("GIF", (600, 300), 256, (256, 128)), ("BMP", (600, 300), 512, (512, 256)),
    ],
)  # fmt: skip
async def test_a_thumbnail(
    files: Files, client: httpx.AsyncClient, kind: str, size: tuple[int, int], side: int, wanted: tuple[int, int]
) -> None:
    url = await link(files, drawn(*size, kind), f"image/{kind.lower()}")
    answer = await client.get(f"{url}&thumbnail={side}")
    assert answer.status_code == 200
    assert (opened(answer.content).format, opened(answer.content).size) == ("WEBP", wanted)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"] == f'inline; filename="{name(url).partition(".")[0]}-{side}.webp"'
    again = await client.get(f"{url}&thumbnail={side}")
    assert again.content == answer.content
    tag = answer.headers["etag"]
    assert tag != (await client.head(url)).headers["etag"]
    assert (await client.get(f"{url}&thumbnail={side}", headers={"if-none-match": tag})).status_code == 304


async def test_a_thumbnail_is_kept_beside_its_picture_and_goes_with_it(
    files: Files, client: httpx.AsyncClient, clock: Clock
) -> None:
    url = await link(files, drawn(600, 300, "PNG"))
    assert (await client.get(f"{url}&thumbnail=256")).status_code == 200
    path = thumbnail_path(name(url), 256)
    assert (await files.store.head(path)).size > 0
    clock.now += 3650 * DAY
    assert await files.sweep(DAY) == 2
    with pytest.raises(FileNotFoundError):
        await files.store.head(path)


async def test_a_kept_thumbnail_is_not_made_again(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, drawn(600, 300, "PNG"))
    await files.keep_thumbnail(name(url), 256, blob(b"kept before"))
    assert (await client.get(f"{url}&thumbnail=256")).content == b"kept before"


async def test_a_thumbnail_stands_upright(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, drawn(800, 400, "JPEG", orientation=6), "image/jpeg")
    assert opened((await client.get(f"{url}&thumbnail=256")).content).size == (128, 256)


async def test_a_thumbnail_keeps_transparency(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, picture("clear.png"))
    assert opened((await client.get(f"{url}&thumbnail=256")).content).mode == "RGBA"


async def test_a_drawing_is_its_own_thumbnail(files: Files, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{await link(files, b'<svg/>', 'image/svg+xml')}&thumbnail=256")
    assert (answer.content, answer.headers["content-type"]) == (b"<svg/>", "image/svg+xml")


async def test_a_video_has_a_poster(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, filmed("mp4"), "video/mp4")
    answer = await client.get(f"{url}&thumbnail=256")
    assert answer.headers["content-type"] == "image/webp"
    assert opened(answer.content).size == (96, 64)
    assert await files.thumbnail(name(url), 256)


@pytest.mark.parametrize(
    ("raw", "type"),
    [
        (b"....ftypmp42", "video/mp4"), (b"x", "application/octet-stream"), (b"no picture", "image/png"),
        (drawn(600, 300, "PNG")[:500], "image/png"), (b"....ftypheic....", "image/heic"),
    ],
)  # fmt: skip
async def test_what_has_no_thumbnail(files: Files, client: httpx.AsyncClient, raw: bytes, type: str) -> None:
    answer = await client.get(f"{await link(files, raw, type)}&thumbnail=256")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("thumbnail_unavailable", "thumbnail")


async def test_a_thumbnail_of_more_pixels_than_are_decoded(
    files: Files, client: httpx.AsyncClient, pixels: Pixels
) -> None:
    pixels.bound = 100
    answer = await client.get(f"{await link(files, drawn(11, 10, 'PNG'))}&thumbnail=256")
    assert answer.json()["error"]["code"] == "thumbnail_unavailable"


@pytest.mark.parametrize("side", ["0", "300", "x", "", "2048"])
async def test_a_thumbnail_of_another_size(files: Files, client: httpx.AsyncClient, side: str) -> None:
    answer = await client.get(f"{await link(files)}&thumbnail={side}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert "'256', '512', and '1024'" in answer.json()["error"]["message"]


async def test_a_thumbnail_needs_the_link_too(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, drawn(600, 300, "PNG"))
    assert (await client.get(f"{url.partition('?')[0]}?thumbnail=256")).status_code == 403


async def test_many_ask_for_the_same_thumbnail(files: Files, client: httpx.AsyncClient) -> None:
    url = await link(files, drawn(1200, 900, "PNG"))
    answers = await asyncio.gather(*(client.get(f"{url}&thumbnail=512") for _ in range(8)))
    assert {opened(answer.content).size for answer in answers} == {(512, 384)}


# --- the bucket's own links


async def test_a_redirect_to_the_bucket(tmp_path: Path, pixels: Pixels, s3: S3, clock: Clock) -> None:
    settings = config.Files(store=f"s3://{s3.bucket}/x", options=s3.secrets, presign=True)
    files = Files(tmp_path, settings, now=clock)
    async with (
        served([outputs.output], Parts(files, pixels, Works())) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        url = await link(files, drawn(600, 300, "PNG"))
        answer = await client.get(url)
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "private, max-age=600")
        assert answer.headers["location"].startswith(f"{s3.endpoint}/{s3.bucket}/x/2027-01-15/{name(url)}?")
        assert "X-Amz-Expires=660" in answer.headers["location"]
        followed = await client.get(url, headers={"range": "bytes=0-3"}, follow_redirects=True)
        assert (followed.status_code, followed.content) == (206, b"\x89PNG")
        assert followed.headers["content-type"] == "image/png"
        assert (await client.head(url)).status_code == 200  # a presigned link opens to GET alone
        assert (await client.get(f"{url}&thumbnail=256")).status_code == 200
        assert (await client.get(url.replace("signature=", "signature=x"))).status_code == 403
        clock.now += 601
        assert (await client.get(url)).json()["error"]["code"] == "link_expired"
    files.close()
