"""The generated parts of README.md, docs/ and config.yaml: tables of what the code declares, between markers.

python -m docs.generate           writes them
python -m docs.generate --check   names the pages that are not as they would be written; exit status 1 if any
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import translators
from docs import declared, served, shown
from proxy import providers

ROOT = Path(__file__).parent.parent
MARKED = re.compile(
    r"(?P<open><!--|#) begin (?P<name>\w+)(?P<close> -->|)\n(?P<text>.*?)(?P=open) end (?P=name)(?P=close)\n", re.DOTALL
)

EXAMPLE = "xai"
"""The provider that shows how one is added: a short one."""

SKELETON = """# {title}

<!-- begin facts -->
<!-- end facts -->

## Models

<!-- begin models -->
<!-- end models -->

## What each model takes

<!-- begin details -->
<!-- end details -->
"""

VIDEOS = """
## Videos

<!-- begin videos -->
<!-- end videos -->
"""


class Unfit(Exception):
    """A page whose markers are not those of its generated parts."""


def wanted() -> dict[str, Mapping[str, str]]:
    """Page -> the text of each of its generated parts."""
    pages: dict[str, Mapping[str, str]] = {
        "README.md": {
            "providers": served.overview("docs/providers/"),
            "fields": declared.own_fields(),
            "errors": declared.errors(),
        },
        "config.yaml": {"variables": served.variables()},
        "docs/providers/README.md": {
            "providers": served.overview(""),
            "models": served.matrix(),
            "videos": served.video_matrix(),
        },
        "docs/configuration.md": {
            "settings": declared.settings(),
            "capabilities": declared.capabilities(),
            "videos": declared.video_capabilities(),
        },
        "docs/metrics.md": {"metrics": declared.metrics(), "labels": declared.labels()},
        "docs/adding-a-provider.md": {
            "change": shown.change(EXAMPLE),
            "conversation": shown.whole(f"tests/wire/{EXAMPLE}/generate.json"),
            "fake": shown.defined(f"tests/fakes/{EXAMPLE}.py", "Generate", "Given", "Edit", "Xai", "fitting"),
        },
        "docs/errors.md": {"errors": declared.errors(), "codes": declared.codes()},
    }
    for name in translators.NAMES:
        pages[f"docs/providers/{name}.md"] = {
            "facts": served.facts(name),
            "models": served.models(name),
            "details": served.details(name),
            **({"videos": served.videos(name)} if providers.videos(name).listed else {}),
        }
    return pages


def spliced(page: str, text: str, parts: Mapping[str, str]) -> str:
    """`text` with what stands between its markers replaced. Raises `Unfit` where a part has no place, or two."""
    found = sorted(match["name"] for match in MARKED.finditer(text))
    if found != sorted(parts):
        raise Unfit(f"{page}: expected markers for {', '.join(sorted(parts))}, found {', '.join(found) or 'none'}")
    return MARKED.sub(
        lambda match: "{open} begin {name}{close}\n{part}\n{open} end {name}{close}\n".format(
            **match.groupdict(), part=parts[match["name"]]
        ),
        text,
    )


def before(root: Path, page: str) -> str:
    """What the page says now; of a provider that has none yet, a page without prose."""
    path = root / page
    if path.exists() or not page.startswith("docs/providers/"):
        return path.read_text(encoding="utf-8")
    skeleton = SKELETON.format(title=translators.load(path.stem).PROVIDER.title)
    return skeleton + VIDEOS if providers.videos(path.stem).listed else skeleton


def stale(root: Path) -> dict[Path, str]:
    """The pages that differ from what they should say, with that."""
    found = {}
    for page, parts in wanted().items():
        path = root / page
        new = spliced(page, before(root, page), parts)
        if not path.exists() or path.read_text(encoding="utf-8") != new:
            found[path] = new
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the tables in the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        pages = stale(options.root)
    except (Unfit, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in pages.items():
        print(f"{'stale' if options.check else 'written'}: {path.relative_to(options.root)}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return 1 if options.check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
