"""ComfyUI behind a proxy that asks for a token: workflows of the built-in nodes, each checked as the server checks it.

With `patiently` in it a prompt waits when it is first looked up, runs at the second look, and has ended at the third.
`refuse me` is what a node says that calls a vendor's service; `rate limit me` is answered as the proxy does.
"""

from __future__ import annotations

import io
import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image, UnidentifiedImageError

from tests.fakes.base import GOOD_KEY, Fake, Seen, picture
from tests.fakes.openai import form

CHECKPOINTS = ("sd_xl_base_1.0.safetensors",)
SAMPLERS = ("euler", "dpmpp_2m")
SCHEDULERS = ("normal", "karras")
CHANNELS = ("alpha", "red", "green", "blue")
CLASSES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "KSampler": (
        {"seed": (0, 2**64 - 1), "steps": (1, 10_000), "cfg": (0.0, 100.0), "sampler_name": SAMPLERS,
         "scheduler": SCHEDULERS, "denoise": (0.0, 1.0), "model": "MODEL", "positive": "CONDITIONING",
         "negative": "CONDITIONING", "latent_image": "LATENT"},
        ("LATENT",),
    ),
    "CheckpointLoaderSimple": ({"ckpt_name": CHECKPOINTS}, ("MODEL", "CLIP", "VAE")),
    "EmptyLatentImage": ({"width": (16, 16384), "height": (16, 16384), "batch_size": (1, 4096)}, ("LATENT",)),
    "CLIPTextEncode": ({"text": str, "clip": "CLIP"}, ("CONDITIONING",)),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
    "VAEEncode": ({"pixels": "IMAGE", "vae": "VAE"}, ("LATENT",)),
    "VAEEncodeForInpaint": (
        {"pixels": "IMAGE", "vae": "VAE", "mask": "MASK", "grow_mask_by": (0, 64)}, ("LATENT",)
    ),
    "LoadImage": ({"image": "file"}, ("IMAGE", "MASK")),
    "LoadImageMask": ({"image": "file", "channel": CHANNELS}, ("MASK",)),
    "ImageBatch": ({"image1": "IMAGE", "image2": "IMAGE"}, ("IMAGE",)),
    "SaveImage": ({"filename_prefix": str, "images": "IMAGE"}, ()),
}  # fmt: skip
"""Inputs, each a range, a list of choices, `str`, a file, or the type of a link; and the types of the outputs."""

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "workflows"
TEXT, REDRAW, INPAINT = (json.loads((EXAMPLES / f"{name}.json").read_text()) for name in ("sdxl", "redraw", "inpaint"))


def changed(nodes: dict[str, Any]) -> dict[str, Any]:
    """The workflow that redraws a picture, with other nodes."""
    return {**deepcopy(REDRAW), **nodes}


PROMPTS = {"prompt": "6.text", "negative_prompt": "7.text", "seed": "3.seed", "steps": "3.steps", "guidance": "3.cfg"}
WORKFLOWS: dict[str, Any] = {
    "sdxl": {
        "workflow": TEXT, "max_n": 4,
        "nodes": {**PROMPTS, "width": "5.width", "height": "5.height", "n": "5.batch_size", "output": "9"},
    },
    "one": {"workflow": TEXT, "nodes": {**PROMPTS, "width": "5.width", "height": "5.height"}},
    "redraw": {"workflow": REDRAW, "nodes": {**PROMPTS, "image": "10.image", "denoise": "3.denoise"}},
    "inpaint": {"workflow": INPAINT, "nodes": {**PROMPTS, "image": "10.image", "mask": "12.image"}},
    "fill": {
        "workflow": changed({
            "11": {"class_type": "VAEEncodeForInpaint",
                   "inputs": {"pixels": ["10", 0], "vae": ["4", 2], "mask": ["10", 1], "grow_mask_by": 6}},
        }),
        "nodes": {**PROMPTS, "image": "10.image", "mask": "10.image"},
    },
    "fuse": {
        "workflow": changed({
            "11": {"class_type": "VAEEncode", "inputs": {"pixels": ["15", 0], "vae": ["4", 2]}},
            "12": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
            "13": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
            "14": {"class_type": "ImageBatch", "inputs": {"image1": ["10", 0], "image2": ["12", 0]}},
            "15": {"class_type": "ImageBatch", "inputs": {"image1": ["14", 0], "image2": ["13", 0]}},
        }),
        "nodes": {**PROMPTS, "image": "10.image", "image_2": "12.image", "image_3": "13.image"},
    },
}  # fmt: skip
"""Entries under `models:` of the configuration."""


class Refused(Exception):
    """An answer with an error: status, type, message, and what is wrong with which node."""


@dataclass
class Prompt:
    graph: dict[str, Any]
    looks: int = 0
    interrupted: bool = False
    deleted: bool = False


@dataclass
class ComfyUI(Fake):
    name: ClassVar[str] = "comfyui"
    generates: ClassVar[str] = "sdxl"
    edits: ClassVar[str | None] = "redraw"
    masks: ClassVar[str | None] = "inpaint"
    fuses: ClassVar[str | None] = "fuse"

    prompts: dict[str, Prompt] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # by their annotated names
    stats: int = 0
    held: str | None = None  # queue_pending or queue_running: as long as it is set, no task goes beyond this state
    stops: int = 0  # how often one was to be stopped

    def config(self, key: str = GOOD_KEY) -> dict[str, Any]:
        return {"api_key": key, "base_url": self.url, "models": WORKFLOWS}

    def pays(self, seen: Seen) -> bool:
        return seen.path == "/prompt"

    def at(self, address: str) -> bytes | None:
        return self.files.get(address)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/upload/{what:image|mask}", self.guarded(self.upload)),
            web.get("/system_stats", self.guarded(self.system_stats)),
            web.post("/prompt", self.guarded(self.submit)),
            web.get("/history/{id}", self.guarded(self.history)),
            web.get("/queue", self.guarded(self.queue)),
            web.post("/queue", self.guarded(self.delete)),
            web.post("/interrupt", self.guarded(self.interrupt)),
            web.get("/view", self.view),  # the proxy lets it pass
        ]

    def guarded(self, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {GOOD_KEY}":
                return web.Response(status=401, text="<html>401 Authorization Required</html>")
            try:
                made: web.Response = await handler(request)
            except Refused as refused:
                status, kind, message, *nodes = refused.args
                error = {"type": kind, "message": message, "details": "", "extra_info": {}}
                body = {"error": error, "node_errors": nodes[0] if nodes else {}}
                return web.json_response(body, status=status)
            return made

        return answer

    async def upload(self, request: web.Request) -> web.Response:
        parts = {part.name: part for part in form(request.headers["Content-Type"], await request.read())}
        mask = request.match_info["what"] == "mask"
        names = {"image", "type", "subfolder", "overwrite", *(["original_ref"] if mask else [])}
        image = parts.get("image")
        if not parts.keys() <= names or image is None or not image.filename or "." not in image.filename:
            return web.Response(status=400)
        kind = parts["type"].data.decode() if "type" in parts else "input"
        if kind not in {"input", "temp", "output"}:
            return web.Response(status=400)
        data = merged(self.original(parts["original_ref"].data), image.data) if mask else image.data
        opened(data)
        stem, dot, suffix = image.filename.rpartition(".")
        name, number = image.filename, 0
        while self.files.get(annotated(name, kind), data) != data:
            number += 1
            name = f"{stem} ({number}){dot}{suffix}"
        self.files[annotated(name, kind)] = data
        return web.json_response({"name": name, "subfolder": "", "type": kind})

    def original(self, text: bytes) -> bytes:
        ref = json.loads(text)
        return self.files[annotated(ref["filename"], ref["type"])]

    async def system_stats(self, request: web.Request) -> web.Response:
        self.stats += 4096
        return web.json_response({"system": {"os": "posix", "ram_free": 8_000_000_000 - self.stats}, "devices": []})

    async def submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not body.keys() <= {"prompt", "client_id", "prompt_id", "extra_data", "front", "number"}:
            raise Refused(400, "invalid_prompt", f"unknown members: {sorted(body)}")
        if "prompt" not in body:
            raise Refused(400, "no_prompt", "No prompt provided")
        graph = body["prompt"]
        text = said(graph)
        if "rate limit me" in text:
            return web.Response(status=429, text="<html>429 Too Many Requests</html>")
        if "fail me" in text:
            return web.Response(status=500, text="500 Internal Server Error")
        self.check(graph)
        name = f"0b0e2c9a-{len(self.prompts):04}"
        self.prompts[name] = Prompt(graph)
        return web.json_response({"prompt_id": name, "number": len(self.prompts), "node_errors": {}})

    def check(self, graph: dict[str, Any]) -> None:
        if not any(node["class_type"] == "SaveImage" for node in graph.values()):
            raise Refused(400, "prompt_no_outputs", "Prompt has no outputs")
        wrong: dict[str, Any] = {}
        for name, node in graph.items():
            kind = node["class_type"]
            if kind not in CLASSES:
                raise Refused(400, "missing_node_type", f"Node '{kind}' not found.")
            errors = [
                {"type": flaw, "message": flaw.replace("_", " ").capitalize(), "details": member, "extra_info": {}}
                for member, rule in CLASSES[kind][0].items()
                if (flaw := self.flaw(graph, node["inputs"], member, rule))
            ]
            if errors or node["inputs"].keys() - CLASSES[kind][0].keys():
                wrong[name] = {"errors": errors, "dependent_outputs": ["9"], "class_type": kind}
        if wrong:
            raise Refused(400, "prompt_outputs_failed_validation", "Prompt outputs failed validation", wrong)

    def flaw(self, graph: dict[str, Any], inputs: dict[str, Any], member: str, rule: Any) -> str | None:
        if member not in inputs:
            return "required_input_missing"
        value = inputs[member]
        if isinstance(value, list):
            node, slot = value
            outputs = CLASSES[graph[node]["class_type"]][1]
            return None if rule == outputs[slot] else "return_type_mismatch"
        if rule == "file":
            return None if value in self.files else "custom_validation_failed"
        if rule is str:
            return None if isinstance(value, str) else "invalid_input_type"
        if not isinstance(rule, tuple):
            return "bad_linked_input"
        if isinstance(rule[0], str):
            return None if value in rule else "value_not_in_list"
        if not isinstance(value, int | float) or (isinstance(rule[0], int) and not isinstance(value, int)):
            return "invalid_input_type"
        return "value_smaller_than_min" if value < rule[0] else "value_bigger_than_max" if value > rule[1] else None

    async def history(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        prompt = self.prompts.get(name)
        if prompt is None or prompt.deleted:
            return web.json_response({})
        if prompt.interrupted:
            status = {"status_str": "error", "completed": False, "messages": [["execution_interrupted", {}]]}
            return web.json_response({name: {"outputs": {}, "status": status, "meta": {}}})
        if self.held:
            return web.json_response({})
        prompt.looks += 1
        text = said(prompt.graph)
        if prompt.looks <= (2 if "patiently" in text else 0):
            return web.json_response({})
        error = {"node_id": "3", "node_type": "FluxProImageNode", "exception_type": "Exception", "traceback": [],
                 "exception_message": "Request Moderated by the provider"}  # fmt: skip
        refused = "refuse me" in text
        messages = [["execution_start", {}], ["execution_error", error] if refused else ["execution_success", {}]]
        status = {"status_str": "error" if refused else "success", "completed": not refused, "messages": messages}
        images = [] if refused or "empty please" in text else self.saved(name, prompt.graph)
        outputs = {"9": {"images": images}} if images else {}
        return web.json_response({name: {"prompt": [1, name, prompt.graph, {}, ["9"]], "outputs": outputs,
                                         "status": status, "meta": {}}})  # fmt: skip

    def saved(self, name: str, graph: dict[str, Any]) -> list[dict[str, str]]:
        size, count = self.drawn(graph, "3")
        found = [f"{name} {number:05}_.png" for number in range(count)]
        self.files |= {annotated(each, "output"): picture(size) for each in found}
        return [{"filename": each, "subfolder": "", "type": "output"} for each in found]

    def drawn(self, graph: dict[str, Any], name: str) -> tuple[tuple[int, int], int]:
        """The size that comes out of a node, and how often."""
        inputs = graph[name]["inputs"]
        if "width" in inputs:
            return (inputs["width"] // 8 * 8, inputs["height"] // 8 * 8), inputs["batch_size"]
        if graph[name]["class_type"] == "LoadImage":
            return opened(self.files[inputs["image"]]).size, 1
        above = inputs.get("latent_image") or inputs.get("pixels") or inputs["image1"]
        return self.drawn(graph, above[0])

    async def queue(self, request: web.Request) -> web.Response:
        return web.json_response({
            row: [[1, name, self.prompts[name].graph, {}, ["9"]] for name in self.queued(row)]
            for row in ("queue_running", "queue_pending")
        })  # fmt: skip

    def queued(self, row: str) -> list[str]:
        """The prompts that are in that row of the queue."""
        at = {"queue_pending": 1, "queue_running": 2}[row]
        here = {name: each for name, each in self.prompts.items() if not (each.interrupted or each.deleted)}
        return [name for name, prompt in here.items() if (self.held == row if self.held else prompt.looks == at)]

    async def delete(self, request: web.Request) -> web.Response:
        """Takes what waits from the queue, and says nothing of what does not."""
        self.stops += 1
        body = await request.json()
        if not body.keys() <= {"delete", "clear"}:
            return web.Response(status=400)
        for name in set(body["delete"]) & set(self.queued("queue_pending")):
            self.prompts[name].deleted = True
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        """Stops the prompt if it is the one that runs, and says nothing of it."""
        self.stops += 1
        body = await request.json()
        if body.keys() != {"prompt_id"}:  # else it would be whatever runs
            return web.Response(status=400)
        if body["prompt_id"] in self.queued("queue_running"):
            self.prompts[body["prompt_id"]].interrupted = True
        return web.Response()

    async def view(self, request: web.Request) -> web.Response:
        """Open to all; a credential that is not its own was leaked to it."""
        if request.headers.get("Authorization", f"Bearer {GOOD_KEY}") != f"Bearer {GOOD_KEY}":
            return web.Response(status=403)
        query = request.query
        data = self.files.get(annotated(query.get("filename", ""), query.get("type", "output")))
        if data is None or query.get("subfolder"):
            return web.Response(status=404)
        return web.Response(body=data, content_type="image/png")


def annotated(name: str, kind: str) -> str:
    return name if kind == "input" else f"{name} [{kind}]"


def said(graph: dict[str, Any]) -> str:
    return " ".join(node["inputs"]["text"] for node in graph.values() if node["class_type"] == "CLIPTextEncode")


def opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError):
        raise web.HTTPBadRequest from None
    return image


def merged(original: bytes, mask: bytes) -> bytes:
    """The picture with the mask's transparency."""
    image = opened(original).convert("RGBA")
    image.putalpha(opened(mask).convert("RGBA").getchannel("A"))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
