"""Servers of one's own: what their entries in the configuration come to, and what no recorded conversation shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from proxy import catalog
from proxy.config import ConfigError
from tests.fakes.base import running
from tests.fakes.comfyui import TEXT, WORKFLOWS, ComfyUI
from tests.server import KEY, serving
from tests.stage import hole, opened, photo
from tests.test_catalog import build, fault, flaws
from tests.test_config import load
from translators import a1111, openai
from translators.base import Call, Fault, Job, Media, Reply, Secret, Stamp, blob
from translators.openai.dialects import DIALECTS

NOW = Stamp(datetime(2026, 11, 20, tzinfo=UTC), "n")


# ---- settings


def test_a_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "referer.txt"
    file.write_text("https://shop.example\n")
    served = build(f"providers: {{openrouter: {{api_key: k, referer: 'file:{file}'}}}}")
    assert served.upstreams["openrouter"].site == {"referer": "https://shop.example"}
    gone = f"providers: {{openrouter: {{api_key: k, referer: 'file:{tmp_path}/gone'}}}}"
    assert flaws(gone) == ["providers.openrouter.referer: the file cannot be read: No such file or directory"]


def test_a_mapping_is_told_as_json(tmp_path: Path) -> None:
    text = "providers: {openrouter: {api_key: k, title: {a: '${NAME}', b: [1, two]}}}"
    found = load(tmp_path, text, {"NAME": "from outside"}).providers["openrouter"]
    assert json.loads(found.site["title"]) == {"a": "from outside", "b": [1, "two"]}
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.flaws == ["providers.openrouter.title.a: NAME is not set"]


def test_a_model_may_have_settings_of_its_own() -> None:
    served = build("""
        providers:
          lab:
            translator: openai
            base_url: http://gpu-1:8188/v1
            response_format: b64_json
            models: {plain: {}, linked: {response_format: url, timeouts: {job: 20m}}}
    """)
    plain, linked = served.route("plain").targets[0].upstream, served.route("linked").targets[0].upstream
    assert (plain.site["response_format"], linked.site["response_format"]) == ("b64_json", "url")
    assert linked.site["base_url"] == "http://gpu-1:8188/v1"
    assert (plain.job_seconds, linked.job_seconds) == (600, 1200)
    assert flaws("providers: {bfl: {api_key: k, models: {flux-2-pro: {response_format: url}}}}") == [
        "providers.bfl.models.flux-2-pro.response_format: unknown; known are "
        + flaws("providers: {bfl: {api_key: k, models: {flux-2-pro: {xyzzy: 1}}}}")[0].partition("known are ")[2]
    ]


# ---- AUTOMATIC1111


def test_a_web_ui_needs_its_address_alone() -> None:
    served = build("providers: {}", {"A1111_BASE_URL": "http://gpu-1:7860/"})
    upstream = served.upstreams["a1111"]
    assert (upstream.base, upstream.trusted) == ("http://gpu-1:7860", True)
    assert list(served.targets) == ["a1111/default"]
    assert served.route("a1111/any.safetensors [0123abcd]").targets[0].caps == a1111.DECLARED
    assert "A1111_BASE_URL is not set" in fault(build("providers: {bfl: {api_key: k}}"), "a1111/default").message


@pytest.mark.parametrize(
    ("key", "said"),
    [("", None), ("user:pass", "Basic dXNlcjpwYXNz"), ("token", "Bearer token")],
    ids=["none", "basic", "bearer"],
)
def test_a_web_ui_takes_what_api_auth_was_given(key: str, said: str | None) -> None:
    call = a1111.sign(Call(path="http://gpu-1:7860/sdapi/v1/txt2img"), Secret(key), NOW)
    assert call.headers.get("Authorization") == said


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((512, 384), (512, 384)),
        ((1000, 999), (1000, 1000)),
        ((4000, 3000), (1184, 888)),
        ((24, 16), (96, 64)),
    ],
)
def test_an_edit_keeps_the_shape_of_its_picture(picture: tuple[int, int], size: tuple[int, int]) -> None:
    """The server would squeeze it into 512x512."""
    image = Media(blob=blob(b""), type="image/png", width=picture[0], height=picture[1])
    call = a1111.start(Job(op="edit", model="default", prompt="x", images=(image,)))
    assert isinstance(call, Call)
    assert (call.json["width"], call.json["height"]) == size


# ---- ComfyUI


def comfy(models: Mapping[str, Any], **more: Any) -> str:
    return yaml.safe_dump(
        {"providers": {"comfyui": {"base_url": "http://gpu-1:8188", "models": dict(models), **more}}}, sort_keys=False
    )


def test_a_workflow_says_what_it_can_do() -> None:
    served = build(comfy(WORKFLOWS))
    found = {name: served.route(f"comfyui/{name}").targets[0].caps for name in WORKFLOWS}
    assert {name: caps.ops for name, caps in found.items()} == {
        "sdxl": {"generate"},
        "one": {"generate"},
        "redraw": {"edit", "variation"},
        "inpaint": {"edit"},
        "fill": {"edit", "variation"},
        "fuse": {"edit", "variation"},
    }
    assert [name for name, caps in found.items() if caps.free] == ["sdxl", "one"]
    assert {name: caps.mask for name, caps in found.items() if caps.mask != "none"} == {
        "inpaint": "white-edits",
        "fill": "alpha",
    }
    assert (found["inpaint"].mask_required, found["fill"].mask_required) == (True, False)
    assert (found["fuse"].min_images, found["fuse"].max_images) == (3, 3)
    assert found["redraw"].options == {"denoise"}
    assert found["sdxl"].params == {"negative_prompt", "seed", "steps", "guidance"}
    assert (found["sdxl"].max_n, found["one"].max_n) == (4, 10)
    assert list(served.targets) == [f"comfyui/{name}" for name in WORKFLOWS]
    assert "comfyui/other" in fault(served, "comfyui/other").message


def test_a_workflow_without_text_reads_no_prompt() -> None:
    entry = {"workflow": TEXT, "nodes": {"seed": "3.seed"}}
    assert build(comfy({"seeds": entry})).route("seeds").targets[0].caps.prompt_chars == 0


def test_a_workflow_of_the_whole_entry() -> None:
    entry = {"workflow": TEXT, "nodes": {"prompt": "6.text"}}
    served = build(comfy({"hidden": {"hidden": True}}, **entry))
    assert list(served.targets) == ["comfyui/workflow"]
    assert served.route("comfyui/hidden").targets[0].upstream.site == served.upstreams["comfyui"].site
    assert list(build(comfy({})).targets) == []


def test_a_workflow_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sdxl.json"
    file.write_text(json.dumps(TEXT))
    entry = {"workflow": f"file:{file}", "nodes": {"prompt": "6.text"}}
    site = build(comfy({"sdxl": entry})).route("comfyui/sdxl").targets[0].upstream.site
    assert json.loads(site["workflow"]) == TEXT


EDITORS = {"nodes": [], "links": [], "version": 0.4}


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        ({}, "workflow: required: a workflow in the API's format"),
        ({"workflow": TEXT}, "nodes: required: a mapping such as"),
        ({"workflow": "{", "nodes": {"prompt": "6.text"}}, "workflow: expected a workflow in the API's format"),
        ({"workflow": EDITORS, "nodes": {"prompt": "6.text"}}, "workflow: this is the editor's format; save it with"),
        ({"workflow": {"6": {}}, "nodes": {"prompt": "6.text"}}, "workflow: expected the API's format: node 6 has no"),
        ({"workflow": TEXT, "nodes": "6.text"}, "nodes: expected a mapping"),
        ({"workflow": TEXT, "nodes": {"prompt": "6"}}, "nodes: prompt: expected NODE.INPUT with a node of the"),
        ({"workflow": TEXT, "nodes": {"prompt": "66.text"}}, "nodes: prompt: expected NODE.INPUT with a node of the"),
        ({"workflow": TEXT, "nodes": {"prompt": "6.words"}}, "nodes: prompt: node 6 (CLIPTextEncode) has the inputs"),
        ({"workflow": TEXT, "nodes": {"prompt": "6.clip"}}, "nodes: prompt: 6.clip is fed by another node"),
        ({"workflow": TEXT, "nodes": {"seed": "6.text"}}, "nodes: seed: 6.text does not hold a whole number"),
        ({"workflow": TEXT, "nodes": {"image_2": "3.seed"}}, "nodes: image_2: 3.seed does not hold text"),
        ({"workflow": TEXT, "nodes": {"output": ["9", "10"]}}, "nodes: output: the workflow has no node 10"),
    ],
)
def test_a_workflow_is_checked_with_the_configuration(entry: dict[str, Any], flaw: str) -> None:
    found = flaws(comfy({"sdxl": entry}))
    assert len(found) == 1
    assert found[0].startswith(f"providers.comfyui.models.sdxl.{flaw}")
    shared = flaws(comfy({}, **entry)) if entry.get("workflow") and "nodes" in entry else []
    assert not shared or [each.startswith(f"providers.comfyui.{flaw}") for each in shared] == [True]


def test_what_is_wrong_for_all_models_is_told_once() -> None:
    found = flaws(comfy({"a": {}, "b": {}}, workflow=TEXT, nodes={"prompt": "6.words"}))
    assert [each.partition(": ")[0] for each in found if ".ops" not in each] == ["providers.comfyui.nodes"]


def test_without_an_address_there_is_no_comfyui() -> None:
    assert "its base_url is not set" in fault(build("providers: {bfl: {api_key: k}}"), "comfyui/sdxl").message


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ComfyUI, httpx.Client]]:
    upstream = ComfyUI()
    with running(upstream), serving(tmp_path_factory.mktemp("comfyui"), {"comfyui": upstream.config()}) as server:
        key = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=server.base_url, headers=key, trust_env=False, timeout=30) as client:
            yield upstream, client


def test_each_of_several_prompts_has_a_seed_of_its_own(comfyui: tuple[ComfyUI, httpx.Client]) -> None:
    """They wait, run, and end; what was drawn for them differs, and the answer tells it."""
    upstream, client = comfyui
    upstream.seen.clear()
    body = {"model": "comfyui/one", "prompt": "a cat, patiently", "n": 2, "size": "512x768"}
    answer = client.post("/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2
    graphs = [json.loads(seen.body)["prompt"] for seen in upstream.seen if seen.path == "/prompt"]
    seeds = [graph["3"]["inputs"]["seed"] for graph in graphs]
    assert seeds == [seeds[0], seeds[0] + 1]
    assert {(graph["5"]["inputs"]["width"], graph["5"]["inputs"]["height"]) for graph in graphs} == {(512, 768)}
    assert "/queue" in {seen.path for seen in upstream.seen}
    again = client.post("/images/generations", json={**body, "prompt": "a cat", "n": 1})
    assert again.status_code == 200
    last = [json.loads(seen.body)["prompt"] for seen in upstream.seen if seen.path == "/prompt"][-1]
    assert last["3"]["inputs"]["seed"] not in seeds


def test_a_mask_becomes_the_pictures_transparency(comfyui: tuple[ComfyUI, httpx.Client]) -> None:
    upstream, client = comfyui
    files = {"image": ("a.png", photo(), "image/png"), "mask": ("m.png", hole(), "image/png")}
    answer = client.post("/images/edits", data={"model": "comfyui/fill", "prompt": "a hat"}, files=files)
    assert answer.status_code == 200, answer.text
    graph = [json.loads(seen.body)["prompt"] for seen in upstream.seen if seen.path == "/prompt"][-1]
    painted = opened(upstream.files[graph["10"]["inputs"]["image"]])
    assert painted.convert("RGB").getpixel((500, 10)) == opened(photo()).convert("RGB").getpixel((500, 10))
    alpha = painted.getchannel("A")
    assert (alpha.getpixel((10, 10)), alpha.getpixel((500, 10))) == (0, 255)


# ---- servers that speak as OpenAI does

PAGE = Path(__file__).parent.parent / "docs" / "providers" / "self-hosted.md"
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def test_the_examples_serve_what_they_name(tmp_path: Path) -> None:
    """All of them side by side, with what each server can do."""
    providers = {name: entry for example in EXAMPLES for name, entry in example["providers"].items()}
    env = {"LOCALAI_API_KEY": "k", "LAB_API_KEY": "k"}
    text = yaml.safe_dump({"providers": providers}, sort_keys=False)
    served = catalog.build(load(tmp_path, text, env), created=0)
    assert list(served.targets) == [f"{name}/{model}" for name, entry in providers.items() for model in entry["models"]]
    found = {name: target.caps for name, target in served.targets.items()}
    assert {name: (caps.mask, caps.max_n, caps.max_images, caps.formats) for name, caps in found.items()} == {
        "localai/flux.1-dev": ("white-edits", 1, 16, ()),
        "localai/flux.1-kontext-dev": ("none", 1, 1, ()),
        "localai/dreamshaper": ("white-edits", 1, 16, ()),
        "omni/Qwen/Qwen-Image": ("white-edits", 10, 16, ("png", "jpeg", "webp")),
        "sglang/black-forest-labs/FLUX.1-dev": ("none", 10, 16, ("png", "jpeg", "webp")),
        "sglang/Qwen/Qwen-Image-Edit-2509": ("none", 10, 3, ("png", "jpeg", "webp")),
        "sdcpp/sd-cpp-local": ("white-edits", 10, 16, ("png", "jpeg")),
        "lab/house-model": ("alpha", 4, 16, ("png", "webp")),
        "lab/old-model": ("none", 1, 16, ()),
    }
    assert not any(caps.streams or caps.qualities or caps.backgrounds for caps in found.values())


def test_the_table_of_dialects_says_what_they_are() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if re.match(r"\| `(?!dialect)", line)]
    told = {cells[0].strip(" `"): [cell.strip() for cell in cells[2:]] for cells in rows}
    assert told.keys() == DIALECTS.keys()
    for name, (count, references, mask, formats, params) in told.items():
        caps = DIALECTS[name].caps
        assert (int(count), references) == (caps.max_n, "yes" if caps.max_images > 1 else "–")
        assert mask == ("–" if caps.mask == "none" else "yes")
        assert formats == (", ".join(caps.formats) or "–")
        assert set(re.findall(r"`(\w+)`", params)) == caps.params


def test_a_dialect_that_nobody_speaks() -> None:
    text = "providers: {lab: {translator: openai, base_url: 'http://gpu-1:1', models: {m: {dialect: vllm}}}}"
    assert flaws(text) == ["providers.lab.models.m.dialect: expected one of localai, vllm-omni, sglang, sd.cpp"]


def test_the_reason_of_an_error_that_is_a_word() -> None:
    data = json.dumps({"error": "server_error", "message": "generate_image returned no results"}).encode()
    with pytest.raises(Fault, match="returned no results"):
        openai.check(Reply(call=Call(path="/"), status=500, data=data))


@pytest.mark.parametrize("job", [
    Job(op="generate", model="m", prompt="x", options={"sample_params": 5}, site={"dialect": "sd.cpp"}),
    Job(op="edit", model="m", prompt="x", options={"url": "http://10.0.0.1/"}, site={"dialect": "vllm-omni"}),
    Job(op="edit", model="m", prompt="x", options={"mask_image": "x"}, site={"dialect": "vllm-omni"}),
    Job(op="generate", model="m", prompt="x", options={"file": "http://10.0.0.1/"}, site={"dialect": "localai"}),
])  # fmt: skip
def test_what_options_may_not_bring(job: Job) -> None:
    with pytest.raises(Fault) as caught:
        openai.start(job)
    assert (caught.value.kind, caught.value.param) == ("invalid", f"provider_options.{next(iter(job.options))}")
