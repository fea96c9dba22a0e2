"""Every file under wire/ is one conversation: job, then calls and replies in turn, then the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import wire_case as wire
from translators import NAMES, load
from translators.base import Call, Done, Fault, Step, Stopper, Wait

CASES = sorted(
    path
    for path in wire.HERE.glob("*/*.json")
    if path.stem != "errors" and not path.stem.startswith("video_")  # those are of another contract
)
ERRORS = [
    pytest.param(path.parent.name, error, id=f"{path.parent.name}-{index}-{error['fault'].get('code')}")
    for path in sorted(wire.HERE.glob("*/errors.json"))
    for index, error in enumerate(wire.load(path)["errors"])
]
KINDS = {"generate", "two", "refused", "rate", "auth", "empty"}
WIRED = [name for name in NAMES if name != "demo"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_wire(path: Path) -> None:
    case = wire.load(path)
    translator = load(path.parent.name)
    job = wire.job(case["job"])
    pictures = {id(given): name for given, name in zip(job.images, case["job"].get("images", ()), strict=True)}
    pictures |= {id(getattr(job, name)): case["job"][name] for name in ("mask", "markup") if name in case["job"]}
    assert case["source"]
    seen: list[dict[str, Any]] = []
    step: Step
    try:
        step = translator.start(job)
        for turn in case["turns"]:
            if isinstance(step, Wait):
                assert step.seconds == turn["wait"]
                step = msgspec.json.decode(msgspec.json.encode(step.call), type=Call)  # a restart loses nothing
                if "cancel" in turn:
                    wire.stopped(translator, job, step, turn["cancel"])
            else:
                assert not {"wait", "cancel"} & turn.keys()
            assert isinstance(step, Call)
            assert wire.shown_call(step, pictures) == turn["call"]
            call = step
            if "events" in turn["reply"]:
                for recorded in turn["reply"]["events"]:
                    reply = wire.event_reply(call, recorded)
                    translator.check(reply)
                    seen += [wire.shown_event(event) for event in translator.event(job, reply)]
            else:
                reply = wire.reply(call, turn["reply"])
                translator.check(reply)
                step = translator.step(job, reply)
    except Fault as fault:
        assert str(fault), "a fault tells the client what happened"
        if seen or "events" in case:
            seen.append({"fault": wire.shown_fault(fault)})
            assert seen == case["events"]
        else:
            assert "fault" in case, f"unexpected fault: {wire.shown_fault(fault)} {fault}"
            assert wire.shown_fault(fault) == case["fault"]
    else:
        if "events" in case:
            assert seen == case["events"]
        else:
            assert isinstance(step, Done)
            assert wire.shown_done(step) == case["done"]


@pytest.mark.parametrize(("provider", "error"), ERRORS)
def test_errors(provider: str, error: dict[str, Any]) -> None:
    call = Call(path="/")
    reply = wire.event_reply(call, error["stream"]) if "stream" in error else wire.reply(call, error)
    with pytest.raises(Fault) as caught:
        load(provider).check(reply)
    assert str(caught.value)
    assert wire.shown_fault(caught.value) == error["fault"]


@pytest.mark.parametrize("provider", WIRED)
def test_required_conversations(provider: str) -> None:
    """No provider without the conversations that hurt."""
    cases = [wire.load(path) for path in CASES if path.parent.name == provider]
    kinds = {case.get("kind") for case in cases}
    needed = set(KINDS)
    if any("edit" in caps.ops for caps in load(provider).MODELS.values()):
        needed.add("edit")
    if any("wait" in turn for case in cases for turn in case["turns"]):
        needed |= {"failed", "lost"}
    assert needed <= kinds
    stops = any(turn.get("cancel") for case in cases for turn in case["turns"])
    assert stops == isinstance(load(provider), Stopper), "how a task is stopped"
    assert (wire.HERE / provider / "errors.json").exists()
