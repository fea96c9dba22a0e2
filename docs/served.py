"""Tables of providers and models, from `PROVIDER`, `MODELS` and `VIDEOS` of each translator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

import translators
from docs.markdown import NONE, table, ticked
from proxy import providers
from proxy.providers import AnyCaps
from translators.base import Caps, Free, Op, Price, Translator, Unit
from translators.video import VideoCaps

OPS: tuple[Op, ...] = ("generate", "edit", "variation", "video", "speech")
REQUEST_NAMES = {"fidelity": "input_fidelity"}  # where a `Job` has another name for a field of the request


def overview(folder: str) -> str:
    """A line for each provider. `folder` is where their pages are, seen from the table."""
    head = ("Provider", "Models", "Operations", "Mask", "References", "Streaming", "Videos", "Key")
    return table(head, (overview_row(name, translators.load(name), folder) for name in translators.NAMES))


def overview_row(name: str, by: Translator, folder: str) -> Sequence[str]:
    """What the provider's models can do together."""
    every = list(by.MODELS.values())
    most = max(caps.max_images for caps in every)
    return (
        f"[{by.PROVIDER.title}]({folder}{name}.md) `{name}`",
        str(len(every)),
        operations(frozenset[Op]().union(*(caps.ops for caps in every))),
        some(sum(caps.mask != "none" for caps in every), len(every)),
        f"up to {most}" if most > 1 else str(most or NONE),
        some(sum(caps.streams for caps in every), len(every)),
        filming(name),
        keys(by),
    )


def filming(name: str) -> str:
    """How many models make videos."""
    if count := len(providers.videos(name).listed):
        return f"{count} model{'' if count == 1 else 's'}"
    return "servers of your own" if name in translators.VIDEO_MAKERS else NONE


def some(count: int, every: int) -> str:
    """How many of the models."""
    return "yes" if count == every else f"{count} of {every} models" if count else NONE


def keys(by: Translator) -> str:
    """The environment variables that switch the provider on."""
    if by.PROVIDER.credential == "none":
        return "none needed"
    env = by.PROVIDER.env
    ways = " or ".join(" and ".join(f"`{name}`" for name in way) for way in providers.ways(by))
    return f"{ways} with `{env['endpoint']}`" if "endpoint" in env else ways or "only in the configuration"


def variables() -> str:
    """For config.yaml: a line for each provider, what switches it on before what else of the environment it reads."""
    lines = []
    for name in translators.NAMES:
        by = translators.load(name)
        first = keys(by).replace("`", "")
        more = [each for each in by.PROVIDER.env.values() if each not in re.split(r"\W+", first)]
        if by.PROVIDER.credential != "none":
            lines.append(f"#   {name:<12} {first}{'; optional ' if more else ''}{', '.join(more)}")
    return "\n".join(lines)


def matrix() -> str:
    """A line for each model of every provider."""
    head = (
        "Model", "Generate", "Edit", "Variation", "Mask", "References", "At once", "Formats", "Streaming", "Price",
        "Ends",
    )  # fmt: skip
    rows = []
    for name in translators.NAMES:
        by = translators.load(name)
        for model, caps in by.MODELS.items():
            does = tuple("yes" if op in caps.ops else NONE for op in OPS[:3])
            rows.append((
                f"`{name}/{model}`", *does, mask(caps), references(caps), str(caps.max_n), formats(caps),
                streaming(caps), price(by, caps), caps.ends or "",
            ))  # fmt: skip
    return table(head, rows)


def facts(name: str) -> str:
    """What the provider's entry in the configuration may hold."""
    fixed = translators.load(name).PROVIDER
    rows = [("Name in the configuration", f"`{name}`")]
    rows += [(f"`{setting}`", f"`{variable}`") for setting, variable in fixed.env.items()]
    if fixed.grant:
        rows.append(("`tenant`, `client_id`, `client_secret`", "instead of a key: OAuth client credentials"))
    if unset := sorted(fixed.settings - fixed.env.keys()):
        rows.append((ticked(unset), "only in the configuration"))
    if regions := [region for region in fixed.regions if region]:
        default = fixed.regions[0] or "none"
        rows.append(("`region`", f"{ticked(regions)}; default: {default}"))
    if fixed.docs:
        rows.append(("The vendor's documents", f"<{fixed.docs}>"))
    return table(("Setting", "Environment variable, or value"), rows)


def models(name: str) -> str:
    """The provider's models."""
    by = translators.load(name)
    head = ("Model", "Operations", "Sizes", "References", "Mask", "Formats", "Streaming", "Price", "Ends", "Note")
    return table(
        head,
        (
            (
                f"`{model}`", operations(caps.ops), sizes(caps), references(caps), mask(caps),
                formats(caps), streaming(caps), price(by, caps), caps.ends or "", caps.note or "",
            )
            for model, caps in by.MODELS.items()
        ),
    )  # fmt: skip


def details(name: str) -> str:
    """Which fields of a request each model takes, beyond prompt, size, format and pictures."""
    head = ("Model", "Pictures a call", "Ratios", "`quality`", "`background`", "Further fields", "`provider_options`")
    return table(head, (details_row(model, caps) for model, caps in translators.load(name).MODELS.items()))


def details_row(model: str, caps: Caps) -> Sequence[str]:
    """One model's line there."""
    return (
        f"`{model}`",
        str(caps.max_n),
        " ".join(caps.ratios) or NONE,
        ", ".join(caps.qualities) or NONE,
        ", ".join(caps.backgrounds) or NONE,
        ticked(sorted(REQUEST_NAMES.get(param, param) for param in caps.params)),
        "any" if "*" in caps.options else ticked(sorted(caps.options)),
    )


def video_matrix() -> str:
    """A line for each model that makes videos, of every provider."""
    head = (
        "Model", "Tasks", "Seconds", "Text alone", "First frame", "Last frame", "References", "Sound", "Price", "Ends",
    )  # fmt: skip
    every = ((name, *each) for name in translators.NAMES for each in providers.videos(name).listed.items())
    return table(
        head,
        (
            (
                f"`{name}/{model}`", tasks(caps), spans(caps.seconds), yes(caps.text), yes(caps.first), yes(caps.last),
                str(caps.references or NONE), SOUNDS[caps.sound], price(translators.load(name), caps), caps.ends or "",
            )
            for name, model, caps in every
        ),
    )  # fmt: skip


def videos(name: str) -> str:
    """The provider's models that make videos."""
    by = translators.load(name)
    head = (
        "Model", "Tasks", "Seconds", "Sizes", "Pictures", "Sound", "Further fields", "`provider_options`", "Price",
        "Ends", "Note",
    )  # fmt: skip
    return table(
        head,
        (
            (
                f"`{model}`", tasks(caps), lengths(caps), shapes(caps), frames(caps), SOUNDS[caps.sound],
                ticked(sorted(caps.params)), "any" if "*" in caps.options else ticked(sorted(caps.options)),
                price(by, caps), caps.ends or "", caps.note or "",
            )
            for model, caps in providers.videos(name).listed.items()
        ),
    )  # fmt: skip


TASKS = ("create", "edit", "extend", "remix")
SOUNDS: Mapping[str, str] = {"none": NONE, "always": "always", "choice": "as asked"}


def tasks(caps: VideoCaps) -> str:
    """In their usual order."""
    return ", ".join(task for task in TASKS if task in caps.tasks)


def yes(fact: bool) -> str:
    """Or a dash."""
    return "yes" if fact else NONE


def spans(numbers: Sequence[int]) -> str:
    """`4, 6, 8` or `3–15`."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers)) or NONE


def lengths(caps: VideoCaps) -> str:
    """Every length, the usual one, and what an extension adds."""
    words = [spans(caps.seconds)]
    words += [f"else {caps.usual_seconds}"] if caps.usual_seconds and len(caps.seconds) > 1 else []
    words += [f"extended by {spans(caps.extra_seconds)}"] if caps.extra_seconds else []
    return "; ".join(words)


def shapes(caps: VideoCaps) -> str:
    """Every way to ask for a size."""
    if "create" not in caps.tasks:
        return "the clip's"
    ways = [f"{width}x{height}" for width, height in caps.sizes]
    at = ", ".join(caps.resolutions)
    if caps.ratios:
        ways.append(" ".join(caps.ratios) + (f" at {at}" if at else ""))
    elif at:
        ways.append(at)
    return "; ".join([*ways, *(["a first frame's ratio"] if caps.frames_shape else [])]) or "the model's own"


def frames(caps: VideoCaps) -> str:
    """The pictures that it takes, and whether it can do without."""
    words = ["first frame"] if caps.first else []
    words += ["last frame"] if caps.last else []
    words += [f"{caps.references} references" if caps.references > 1 else "a reference"] if caps.references else []
    needed = "" if caps.text or caps.tasks == {"edit"} else "; needs one"
    return (", ".join(words) + needed) if words else NONE


def operations(ops: frozenset[Op]) -> str:
    """In their usual order."""
    return ", ".join(op for op in OPS if op in ops)


def references(caps: Caps) -> str:
    """How many pictures one call takes."""
    if not caps.max_images:
        return NONE
    if caps.min_images > 1:
        return f"{caps.min_images}" if caps.min_images == caps.max_images else f"{caps.min_images}–{caps.max_images}"
    return str(caps.max_images)


def mask(caps: Caps) -> str:
    """Whether it takes one."""
    return NONE if caps.mask == "none" else "required" if caps.mask_required else "yes"


def formats(caps: Caps) -> str:
    """Those that it makes; any other is converted here."""
    return ", ".join(caps.formats) or "the model's own"


def price(by: Translator, caps: AnyCaps) -> str:
    """What it costs; of a server of one's own, nothing that could be told."""
    own = by.PROVIDER.credential == "none" or providers.addressed(by)
    return "free" if own and not caps.prices else prices(caps.prices)


def streaming(caps: Caps) -> str:
    """Real events; elsewhere a stream is one completed event for each picture."""
    return NONE if not caps.streams else f"yes, {caps.partials} previews" if caps.partials else "yes"


def sizes(caps: Caps) -> str:
    """Every way to ask for a size."""
    ways = [f"{width}x{height}" for width, height in caps.sizes]
    if caps.free:
        ways.append(bounds(caps.free))
    if caps.ratios:
        at = f" at {', '.join(caps.resolutions)}" if caps.resolutions else ""
        ways.append(f"{len(caps.ratios)} ratios{at}")
    return "; ".join(ways) or "the model's own"


def bounds(free: Free) -> str:
    """The sizes of a model that takes any within bounds."""
    least, most = free.pixels
    short, long = free.edge
    words = [f"multiples of {free.step}"] if free.step > 1 else []
    if least or most:
        words.append(f"{least:,} to {most:,} pixels" if least else f"at most {most:,} pixels")
    if short > 1 or long:
        words.append(f"edges of {short} to {long}" if long else f"edges of at least {short}")
    if free.ratio:
        words.append(f"at most {free.ratio:g}:1")
    return ", ".join(["any", *words])


UNITS: Mapping[Unit, str] = {
    "image": "picture", "megapixel": "megapixel", "input_image": "picture sent", "input_megapixel": "megapixel sent",
    "token.text.in": "text in", "token.image.in": "pictures in", "token.text.out": "text out",
    "token.image.out": "pictures out", "second": "second", "video": "video", "character": "character",
    "credit": "credit, once it tells how many",
}  # fmt: skip


def prices(rules: Sequence[Price]) -> str:
    """The rules in words. Those that fit are added up."""
    if rules and not any(rule.amount for rule in rules):
        return "free"
    tokens = [f"{amount(rule)} {UNITS[rule.unit]}" for rule in rules if rule.unit.startswith("token.")]
    ways = [spoken(rule) for rule in rules if not rule.unit.startswith("token.")]
    if tokens:
        ways.append(f"per million tokens: {', '.join(tokens)}")
    return "; ".join(ways) or "unknown"


def spoken(rule: Price) -> str:
    """One rule."""
    words = [amount(rule), "a" if rule.per == 1 else f"for {rule.per:,}", UNITS[rule.unit]]
    low, high = (f"{pixels / 1e6:.3g} megapixels" for pixels in rule.pixels)
    if any(rule.pixels):
        words.append(f"over {low}" if not rule.pixels[1] else f"up to {high}")
    words += [f"at {wish}" for wish in (rule.resolution, rule.size) if wish]
    words += [f"of {rule.quality} quality"] if rule.quality else []
    words += [f"for {rule.op}"] if rule.op else []
    words += conditions(rule)
    words += [f"beyond the first {rule.free if rule.free > 1 else ''}".rstrip()] if rule.free else []
    return " ".join(words)


SPOKEN = frozenset({
    "unit", "amount", "per", "currency", "op", "quality", "size", "resolution", "pixels", "free",
})  # fmt: skip
"""Fields of a rule that `spoken` has words of its own for."""


def conditions(rule: Price) -> Iterator[str]:
    """Its other conditions: `with sound`, `without clip`, `seconds 5`."""
    for name, value in msgspec.structs.asdict(rule).items():
        if name not in SPOKEN and value is not None:
            yield f"{'with' if value else 'without'} {name}" if isinstance(value, bool) else f"{name} {value}"


def amount(rule: Price) -> str:
    """With its currency. Token prices are all given for a million."""
    value = rule.amount * (1_000_000 / rule.per if rule.unit.startswith("token.") else 1)
    return f"{'$' if rule.currency == 'USD' else 'CNY '}{value:g}"
