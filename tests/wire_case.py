"""How a conversation on disk is read, replayed and compared. See wire/README.md."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.pictures import media
from translators.base import (
    Blob,
    Call,
    Done,
    Event,
    Fault,
    Finder,
    Inline,
    Job,
    Media,
    Output,
    Partial,
    Reply,
    Step,
    Stopper,
    Translator,
    Usage,
    Wait,
    blob,
    body,
)
from translators.video import VideoJob, VideoTranslator

HERE = Path(__file__).parent / "wire"


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text())
    return case


def job(case: Mapping[str, Any]) -> Job:
    """The case's job, its pictures read from `tests/pictures`."""

    def hook(kind: type, value: object) -> object:
        raise NotImplementedError(f"{kind}: {value!r}")

    plain = dict(case)
    pictures = {name: media(plain.pop(name)) for name in ("mask", "markup") if name in plain}
    images = tuple(media(name) for name in plain.pop("images", ()))
    made = msgspec.convert(plain, Job, dec_hook=hook)
    return msgspec.structs.replace(made, images=images, **pictures)


VIDEO_MEDIA = ("first", "last", "clip")


def video_job(case: Mapping[str, Any]) -> VideoJob:
    """The job of a case that makes a video."""
    plain = dict(case)
    given = {name: media(plain.pop(name)) for name in VIDEO_MEDIA if name in plain}
    references = tuple(media(name) for name in plain.pop("references", ()))
    made = msgspec.convert(plain, VideoJob)
    return msgspec.structs.replace(made, references=references, **given)


def video_pictures(job: VideoJob, case: Mapping[str, Any]) -> dict[int, str]:
    """What each of its pictures is called in the case."""
    named = {id(getattr(job, name)): case[name] for name in VIDEO_MEDIA if name in case}
    return named | {id(each): name for each, name in zip(job.references, case.get("references", ()), strict=True)}


def reply(call: Call, recorded: Mapping[str, Any]) -> Reply:
    data = json.dumps(recorded["json"]).encode() if "json" in recorded else recorded.get("text", "").encode()
    headers = {name.lower(): value for name, value in recorded.get("headers", {}).items()}
    picture = blob(base64.b64decode(recorded["body"])) if "body" in recorded else None
    return Reply(call=call, status=recorded.get("status", 200), headers=headers, data=data, body=picture)


def event_reply(call: Call, recorded: Mapping[str, Any]) -> Reply:
    data = recorded["data"]
    text = data if isinstance(data, str) else json.dumps(data)
    return Reply(call=call, status=200, data=text.encode(), event=recorded.get("event", ""))


def looked(by: VideoTranslator, job: VideoJob, turn: Mapping[str, Any], pictures: Mapping[int, str]) -> Step | None:
    """How a task goes on whose submit had no answer; `None` where there is none."""
    assert isinstance(by, Finder)
    call = by.look(job)
    assert call
    assert shown_call(call, pictures) == turn["call"]
    answer = reply(call, turn["reply"])
    by.check(answer)
    return by.found(job, answer)


def waited(step: Wait, turn: Mapping[str, Any]) -> Call:
    """The poll of a turn that says how long it waits for it, and what the provider told till then."""
    told = {"wait": step.seconds, "queued": step.queued or None, "progress": step.progress}
    assert {name: value for name, value in told.items() if value is not None} == {
        name: turn[name] for name in told if name in turn
    }
    return msgspec.json.decode(msgspec.json.encode(step.call), type=Call)  # a restart loses nothing


def stopped(by: Translator, job: Job, poll: Call, said: Mapping[str, Any] | None) -> None:
    """Stop the task of that poll as the case says: by a call and its reply, or not at all."""
    call = by.cancel(job, poll) if isinstance(by, Stopper) else None
    assert (shown_call(call, {}) if call else None) == (said["call"] if said else None)
    if call is None or said is None:
        return
    try:
        by.check(reply(call, said["reply"]))
    except Fault as fault:
        assert shown_fault(fault) == said["fault"]
    else:
        assert "fault" not in said


def shown_call(call: Call, pictures: Mapping[int, str]) -> dict[str, Any]:
    """`call` as a case writes it."""
    plain: dict[str, Any] = {"path": call.path}
    for name in ("method", "query", "headers", "text", "read", "repeatable", "anonymous", "state"):
        if (value := getattr(call, name)) != getattr(Call(path=""), name):
            plain[name] = dict(value) if isinstance(value, Mapping) else value
    if call.json is not None:
        plain["json"] = json.loads(b"".join(shown_piece(piece, pictures) for piece in body(call)))
    if call.media is not None:
        plain["media"] = f"<{pictures[id(call.media)]}>"
    if call.form:
        plain["form"] = [
            [part.name, f"<{pictures[id(part.value)]}>" if isinstance(part.value, Media) else part.value]
            for part in call.form
        ]
    return plain


def shown_piece(piece: bytes | Inline, pictures: Mapping[int, str]) -> bytes:
    return piece if isinstance(piece, bytes) else f"<{pictures[id(piece.media)]}>".encode()


def shown_output(output: Output) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if output.url is not None:
        plain["url"] = output.url
    if output.blob is not None:
        plain["base64"] = shown_blob(output.blob)
    if output.revised_prompt is not None:
        plain["revised_prompt"] = output.revised_prompt
    if output.extra:
        plain["extra"] = msgspec.to_builtins(output.extra)
    return plain


def shown_blob(blob: Blob) -> str:
    return b"".join(blob.base64()).decode()


def shown_usage(usage: Usage) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(usage).items() if value is not None}


def shown_done(done: Done) -> dict[str, Any]:
    plain: dict[str, Any] = {"outputs": [shown_output(output) for output in done.outputs]}
    if usage := shown_usage(done.usage):
        plain["usage"] = usage
    if done.faults:
        plain["faults"] = [[fault.kind, fault.code] for fault in done.faults]
    for name in ("quality", "background"):
        if (value := getattr(done, name)) is not None:
            plain[name] = value
    return plain


def shown_fault(fault: Fault) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": fault.kind, "code": fault.code}
    for name in ("param", "retry_after", "cost_usd"):
        if (value := getattr(fault, name)) is not None:
            plain[name] = value
    return plain


def shown_event(event: Event) -> dict[str, Any]:
    match event:
        case Partial():
            return {"partial": event.index, **shown_output(event.output)}
        case Output():
            return {"output": shown_output(event)}
        case Usage():
            return {"usage": shown_usage(event)}
        case Done():
            return {"done": shown_done(event)}
