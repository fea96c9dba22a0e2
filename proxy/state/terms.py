"""What lists are filtered by as short digests, so that an index over them holds no long text: see `task.terms`.

A digest has 64 bits. Two that are equal by chance would put a task into a list of the same key's where it does not
belong, and do nothing worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec


def of(models: Iterable[str | None], metadata: Mapping[str, str] | None) -> str:
    """The digests of a task's models, as asked for and as answered, and of each pair of its metadata."""
    named = dict.fromkeys(model(name) for name in models if name is not None)
    return " ".join([*named, *(pair(name, value) for name, value in (metadata or {}).items())])


def model(name: str) -> str:
    """Of a model that was asked for, or has answered."""
    return _digest(["model", name])


def pair(name: str, value: str) -> str:
    """Of one pair of metadata."""
    return _digest(["metadata", name, value])


def _digest(words: list[str]) -> str:
    return hashlib.blake2b(msgspec.json.encode(words), digest_size=8).hexdigest()
