"""Tables of providers and models, from `PROVIDER` and `MODELS` of each translator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import translators
from docs.markdown import NONE, table, ticked
from proxy import providers
from translators.base import Caps, Free, Op, Price, Translator, Unit

OPS: tuple[Op, ...] = ("generate", "edit", "variation", "video", "speech")
REQUEST_NAMES = {"fidelity": "input_fidelity"}  # where a `Job` has another name for a field of the request


def overview(folder: str) -> str:
    """A line for each provider. `folder` is where their pages are, seen from the table."""
    head = ("Provider", "Models", "Operations", "Mask", "References", "Streaming", "Key")
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
        keys(by),
    )


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


def price(by: Translator, caps: Caps) -> str:
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
    words += [f"beyond the first {rule.free if rule.free > 1 else ''}".rstrip()] if rule.free else []
    return " ".join(words)


def amount(rule: Price) -> str:
    """With its currency. Token prices are all given for a million."""
    value = rule.amount * (1_000_000 / rule.per if rule.unit.startswith("token.") else 1)
    return f"{'$' if rule.currency == 'USD' else 'CNY '}{value:g}"
