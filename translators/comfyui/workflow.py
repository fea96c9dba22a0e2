"""ComfyUI's workflows with named inputs: read, checked and filled in. Pure data; `comfyui` sends them.

`nodes` maps a name to the input that it stands for, `6.text` being the input `text` of node 6, or to a list of them:

    {"prompt": "6.text", "seed": "3.seed", "image": "10.image", "output": "9", "denoise": "3.denoise"}

`prompt`, `negative_prompt`, `seed`, `steps`, `guidance`, `width`, `height`, `n`, `image`, `image_2` …, `mask` are the
request's own fields. `output` names the nodes whose pictures count. Any other name is one of `provider_options`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from translators.base import Caps, Fault, Free, MaskRule, Op, Price

Place: TypeAlias = tuple[str, str]
"""A node and one of its inputs."""

Graph: TypeAlias = Mapping[str, Mapping[str, Any]]

TEXT, WHOLE, NUMBER = (str,), (int,), (int, float)
KINDS: Mapping[str, tuple[type, ...]] = {
    "prompt": TEXT, "negative_prompt": TEXT, "seed": WHOLE, "steps": WHOLE, "guidance": NUMBER, "width": WHOLE,
    "height": WHOLE, "n": WHOLE, "mask": TEXT,
}  # fmt: skip
PICTURE = re.compile(r"image(?:_([2-9]|1[0-6]))?")
WORDS = {TEXT: "text", WHOLE: "a whole number", NUMBER: "a number", (bool,): "true or false"}

OWN_MACHINE = (Price(unit="image", amount=0),)
"""It sends no bills."""

MOST = 10  # pictures of one job, as several prompts where the workflow makes one
SIZES = Free(step=8, edge=(16, 0))
PARAMS = frozenset({"negative_prompt", "seed", "steps", "guidance"})


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that was found to be one."""

    graph: Graph
    places: Mapping[str, tuple[Place, ...]]
    output: frozenset[str] = frozenset()

    @property
    def options(self) -> frozenset[str]:
        """Named inputs that are no field of a request."""
        return frozenset(name for name in self.places if name not in KINDS and not PICTURE.fullmatch(name))

    @property
    def merged(self) -> bool:
        """Whether the mask goes into the picture itself, as its transparency."""
        return "mask" in self.places and self.places["mask"] == self.places.get("image")


def read(site: Mapping[str, str]) -> Workflow:
    """The workflow of these settings. Raises a `Fault` whose `param` is the setting that is wrong."""
    return parsed(site.get("workflow", ""), site.get("nodes", ""))


@lru_cache(256)
def parsed(workflow: str, nodes: str) -> Workflow:
    graph = read_graph(workflow)
    named = decoded(nodes, "nodes", 'a mapping such as {prompt: 6.text, seed: 3.seed, output: "9"}')
    output: frozenset[str] = frozenset()
    places: dict[str, tuple[Place, ...]] = {}
    for name, given in named.items():
        texts = [str(each) for each in (given if isinstance(given, list) else [given])]
        if name == "output":
            output = frozenset(texts)
            if unknown := sorted(output - graph.keys()):
                raise wrong("nodes", f"output: the workflow has no node {unknown[0]}")
        else:
            places[name] = tuple(place(graph, name, text) for text in texts)
    return Workflow(graph=graph, places=places, output=output)


def wrong(setting: str, message: str) -> Fault:
    return Fault("invalid", message, code="invalid_configuration", param=setting)


def decoded(text: str, setting: str, expected: str) -> dict[str, Any]:
    if not text:
        raise wrong(setting, f"required: {expected}")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise wrong(setting, f"expected {expected}") from None


def read_graph(text: str) -> dict[str, dict[str, Any]]:
    graph = decoded(text, "workflow", "a workflow in the API's format, such as file:/etc/pictor/sdxl.json")
    if isinstance(graph.get("nodes"), list):
        raise wrong("workflow", "this is the editor's format; save it with Export (API)")
    for name, node in graph.items():
        if not isinstance(node, dict) or "class_type" not in node or not isinstance(node.get("inputs"), dict):
            raise wrong("workflow", f"expected the API's format: node {name} has no class_type and inputs")
    return graph


def place(graph: Graph, name: str, text: str) -> Place:
    """Where `name` goes. What another node feeds, or what holds another kind of value, is no place for it."""
    node, dot, member = text.partition(".")
    if not dot or node not in graph:
        raise wrong("nodes", f"{name}: expected NODE.INPUT with a node of the workflow, got {text}")
    inputs = graph[node]["inputs"]
    if member not in inputs:
        known = ", ".join(inputs) or "none"
        raise wrong("nodes", f"{name}: node {node} ({graph[node]['class_type']}) has the inputs {known}, got {text}")
    if isinstance(inputs[member], list):
        raise wrong("nodes", f"{name}: {text} is fed by another node")
    kinds = TEXT if PICTURE.fullmatch(name) else KINDS.get(name)
    if kinds and not fits(inputs[member], kinds):
        raise wrong("nodes", f"{name}: {text} does not hold {WORDS[kinds]}")
    return node, member


def fits(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def picture_places(flow: Workflow) -> list[str]:
    """`image`, `image_2` … as far as they are named, in order."""
    names = [name for name in flow.places if PICTURE.fullmatch(name)]
    return sorted(names, key=lambda name: int(name.partition("_")[2] or 1))


def mask_rule(flow: Workflow) -> MaskRule:
    """ComfyUI takes what is transparent as what is to be edited, unless a loader reads one of the colours."""
    if "mask" not in flow.places:
        return "none"
    node, _ = flow.places["mask"][0]
    colour = flow.graph[node]["inputs"].get("channel") in {"red", "green", "blue"}
    return "white-edits" if colour else "alpha"


def declared(site: Mapping[str, str]) -> Caps:
    """What a workflow can do. Raises the `Fault` that says what is wrong with it."""
    flow = read(site)
    names = flow.places.keys()
    images = picture_places(flow)
    ops: set[Op] = {"edit"} if images else {"generate"}
    apart = "mask" in names and not flow.merged
    if images and not apart:
        ops.add("variation")
    return Caps(
        ops=frozenset(ops),
        max_n=MOST,
        prompt_chars=32_000 if "prompt" in names else 0,
        free=SIZES if {"width", "height"} <= names else None,
        min_images=len(images),
        max_images=len(images),
        mask=mask_rule(flow),
        mask_required=apart,  # its loader would take whatever lies there
        params=PARAMS & names,
        options=flow.options,
        prices=OWN_MACHINE,
    )


def checked_option(flow: Workflow, name: str, value: object) -> None:
    """Refuse a value of another kind than the workflow's own."""
    param = f"provider_options.{name}"
    if name not in flow.options:
        text = f"Unknown parameter: '{param}'. The workflow names: {', '.join(sorted(flow.options)) or 'none'}."
        raise Fault("invalid", text, code="unknown_parameter", param=param)
    node, member = flow.places[name][0]
    own = flow.graph[node]["inputs"][member]
    kinds = next(kinds for kinds in ((bool,), TEXT, NUMBER, (object,)) if fits(own, kinds))
    if not fits(value, kinds):
        text = f"Invalid type for '{param}': expected {WORDS[kinds]}."
        raise Fault("invalid", text, code="invalid_type", param=param)


def filled(flow: Workflow, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The workflow with `values` in the places of their names."""
    graph = {name: {**node, "inputs": dict(node["inputs"])} for name, node in flow.graph.items()}
    for name, value in values.items():
        for node, member in flow.places[name]:
            graph[node]["inputs"][member] = value
    return graph
