"""ComfyUI: a server of one's own that runs workflows. A model is a workflow from the configuration with named inputs.

    POST /upload/image   a form                   -> {"name", "subfolder", "type"}, for its loader nodes
    POST /prompt         {"prompt": the workflow} -> {"prompt_id"}
    GET  /history/<id>   -> {} while it is unknown or unfinished, then {id: {"outputs", "status"}}
    GET  /queue          tells unknown from unfinished
    POST /queue {"delete": [ids]}, or /interrupt {"prompt_id"} for one that runs
    GET  /view?filename= the picture

`workflow` holds the JSON in the API's format, `nodes` says where the request's fields go in it; see `workflow`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode
from zlib import crc32

import msgspec
from msgspec.structs import replace

from translators.a1111 import MEMORY, REFUSED, sign
from translators.base import (
    Call,
    Caps,
    Done,
    Fault,
    FaultKind,
    Job,
    Media,
    Op,
    Output,
    Part,
    Provider,
    Reply,
    Step,
    Wait,
    by_status,
)
from translators.base import no_events as event
from translators.comfyui.workflow import (
    MOST,
    OWN_MACHINE,
    PARAMS,
    SIZES,
    Workflow,
    checked_option,
    declared,
    filled,
    picture_places,
    read,
)
from translators.shapes import unread

__all__ = ["MODELS", "PROVIDER", "base", "cancel", "caps", "check", "declared", "event", "sign", "start", "step"]

PROVIDER = Provider(
    title="ComfyUI",
    settings=frozenset({"workflow", "nodes", "user", "uploads"}),
    docs="https://docs.comfy.org/development/comfyui-server/comms_routes",
)
POLL = 0.5  # seconds; a finished picture shows at every other poll

MODELS: Mapping[str, Caps] = {
    "workflow": Caps(
        ops=frozenset[Op]({"generate", "edit", "variation"}),
        max_n=MOST,
        free=SIZES,
        max_images=16,
        mask="alpha",
        params=PARAMS,
        options=frozenset({"*"}),
        prices=OWN_MACHINE,
        note="That of the entry itself. What a workflow can do follows from the inputs that are named.",
    )
}


def base(site: Mapping[str, str]) -> str:
    return site.get("base_url", "").rstrip("/")


def caps(model: str) -> Caps | None:
    """Nothing without the configuration."""
    return None


# ---- the way of a job: uploads, a seed, one prompt or several, and for each of them its history


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file on the server."""

    filename: str
    type: str
    subfolder: str = ""
    round: int = 0  # which of the prompts made it

    def query(self) -> dict[str, str]:
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}

    def annotated(self) -> str:
        """As a loader node names it."""
        path = f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename
        return path if self.type == "input" else f"{path} [{self.type}]"


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: FaultKind
    message: str
    code: str | None = None


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known so far."""

    uploads: tuple[Stored, ...] = ()
    seed: int | None = None
    ids: tuple[str, ...] = ()
    ended: int = 0  # how many of them
    running: bool = False  # whether the one that is waited for ran when the queue was last seen
    absent: bool = False  # the queue does not know the one that is waited for: its end, or that of the server
    made: tuple[Stored, ...] = ()
    failed: tuple[Failed, ...] = ()


def start(job: Job) -> Step:
    flow = read(job.site)
    check_asked(job, flow)
    return prepared(job, State(seed=job.seed if job.seed is not None and job.seed >= 0 else None))


def check_asked(job: Job, flow: Workflow) -> None:
    """Refuse what has no place in the workflow before anything is uploaded."""
    for name, value in job.options.items():
        checked_option(flow, name, value)
    asked = {*fields(job, flow, job.seed, 0), *(["mask"] if job.mask else [])} - job.options.keys()
    if lost := sorted(asked - flow.places.keys()):
        param = "size" if lost[0] in {"width", "height"} else lost[0]
        text = f"The workflow of {job.model} names no input for '{param}'."
        raise Fault("invalid", text, code="unsupported_parameter", param=param)
    if len(job.images) > (most := len(picture_places(flow))):
        text = f"The workflow of {job.model} takes {most} pictures, not {len(job.images)}."
        raise Fault("invalid", text, code="invalid_value", param="image")


def prepared(job: Job, state: State) -> Step:
    """The next call on the way to the last prompt."""
    flow = read(job.site)
    if waiting := pictures(job)[len(state.uploads) :]:
        return upload(job, state, flow, waiting[0])
    if state.seed is None and "seed" in flow.places:
        # What ran before with the same seed does not run again. A translator draws no lots: what the server has free
        # at the moment stands for one.
        return sent(job, state, "/system_stats", method="GET", repeatable=True)
    number = len(state.ids)
    if number < rounds(job, flow):
        said = fields(job, flow, state.seed, number) | named_uploads(job, flow, state.uploads)
        return sent(job, state, "/prompt", json={"prompt": filled(flow, said)})
    return Wait(look(job, state, record(state)), POLL)


def pictures(job: Job) -> tuple[Media, ...]:
    return (*job.images, *((job.mask,) if job.mask else ()))


def rounds(job: Job, flow: Workflow) -> int:
    """How many prompts: one where the workflow makes several pictures at once."""
    return 1 if "n" in flow.places else job.n


def upload(job: Job, state: State, flow: Workflow, media: Media) -> Call:
    kind = job.site.get("uploads") or "temp"  # which the server empties when it starts
    form = (Part("image", media), Part("type", kind))
    if media is not job.mask or not flow.merged:
        return sent(job, state, "/upload/image", form=form)
    original = msgspec.json.encode(state.uploads[0].query()).decode()
    return sent(job, state, "/upload/mask", form=(*form, Part("original_ref", original)))


def fields(job: Job, flow: Workflow, seed: int | None, number: int) -> dict[str, Any]:
    """What goes into which named input, but for pictures."""
    width, height = job.size or (None, None)
    said: dict[str, Any] = {
        "prompt": job.prompt or None,  # a variation without one keeps the workflow's own
        "negative_prompt": job.negative_prompt,
        "steps": job.steps,
        "guidance": job.guidance,
        "seed": None if seed is None else seed + number,
        "width": width,
        "height": height,
        "n": job.n if "n" in flow.places else None,
    }
    return {name: value for name, value in said.items() if value is not None} | dict(job.options)


def named_uploads(job: Job, flow: Workflow, uploads: tuple[Stored, ...]) -> dict[str, str]:
    names = [each.annotated() for each in uploads]
    mask = {"mask": names.pop()} if job.mask else {}
    said = dict(zip(picture_places(flow), names, strict=False)) | mask
    # Merged, it is the picture itself by now, transparent where the mask was.
    return {**said, "image": mask["mask"]} if mask and flow.merged else said


def record(state: State) -> str:
    return f"/history/{quote(state.ids[state.ended], safe='')}"


def sent(job: Job, state: State, path: str, **members: Any) -> Call:
    headers = {"comfy-user": job.site["user"]} if job.site.get("user") else {}
    return Call(path=path, headers=headers, state=msgspec.json.encode(state).decode(), **members)


def look(job: Job, state: State, path: str, **members: Any) -> Call:
    return sent(job, state, path, method="GET", repeatable=True, **members)


# ---- what comes back


class Uploaded(msgspec.Struct, frozen=True):
    name: str
    subfolder: str = ""
    type: str = "input"


class Submitted(msgspec.Struct, frozen=True):
    prompt_id: str


class Queued(msgspec.Struct, frozen=True, array_like=True):
    number: Any
    id: str


class Queue(msgspec.Struct, frozen=True):
    queue_running: tuple[Queued, ...] = ()
    queue_pending: tuple[Queued, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """What one node shows; other members are no pictures."""

    images: tuple[Stored, ...] | None = None


class Status(msgspec.Struct, frozen=True):
    status_str: str = ""
    messages: tuple[tuple[str, Any], ...] = ()


class Entry(msgspec.Struct, frozen=True):
    outputs: dict[str, Result] = {}
    status: Status | None = None


def step(job: Job, reply: Reply) -> Step:
    state = msgspec.json.decode(reply.call.state, type=State)
    match reply.call.path.split("/")[1]:
        case "upload":
            found = reply.read(Uploaded)
            upload = Stored(found.name, found.type, found.subfolder)
            return prepared(job, replace(state, uploads=(*state.uploads, upload)))
        case "system_stats":
            drawn = crc32(reply.data + reply.headers.get("date", "").encode())
            return prepared(job, replace(state, seed=drawn))
        case "prompt":
            return prepared(job, replace(state, ids=(*state.ids, reply.read(Submitted).prompt_id)))
        case "queue":
            return queued(job, state, reply.read(Queue))
        case "history":
            return looked_up(job, state, reply.read(dict[str, Entry]))
        case _:
            if reply.body is None:
                raise Fault("upstream", "The server showed no picture.", code="unreadable")
            return Done(outputs=(Output(blob=reply.body, extra=extra(state, state.made[0])),), faults=faults(state))


def looked_up(job: Job, state: State, history: Mapping[str, Entry]) -> Step:
    """A prompt's end, or that it has none yet."""
    entry = history.get(state.ids[state.ended])
    if entry is None and not state.absent:
        return Wait(look(job, state, "/queue"), POLL, share(state))
    if entry is None:
        text = "The server does not know the job any more: it may have been restarted."
        state = replace(state, failed=(*state.failed, Failed("missing", text, "task_not_found")))
    elif failed := failure(entry):
        state = replace(state, failed=(*state.failed, failed))
    else:
        found = tuple(stored(read(job.site), entry, state.ended))
        text = "The workflow ended without a picture."
        none = () if found else (Failed("empty", text, "no_image"),)
        state = replace(state, made=(*state.made, *found), failed=(*state.failed, *none))
    state = replace(state, ended=state.ended + 1, absent=False, running=False)
    if state.ended < len(state.ids):
        return Wait(look(job, state, record(state)), 0.0, share(state))
    return shown(job, state)


def queued(job: Job, state: State, queue: Queue) -> Step:
    """Back to the history. What neither runs nor waits has ended since, or is lost: the history says which."""
    wanted = state.ids[state.ended]
    pending = any(entry.id == wanted for entry in queue.queue_pending)
    running = any(entry.id == wanted for entry in queue.queue_running)
    state = replace(state, absent=not (pending or running), running=running)
    progress = 0 if pending and not state.ended else share(state)
    return Wait(look(job, state, record(state)), 0.0 if state.absent else POLL, progress)


def cancel(job: Job, waiting: Call) -> Call | None:
    """Interrupts the last prompt where it runs, else takes what waits from the queue: of several, one that runs is
    let end. Older servers interrupt whatever runs, so it is only done where the queue has told that it is this one.
    """
    state = msgspec.json.decode(waiting.state, type=State)
    match state.ids[state.ended :]:
        case ():
            return None
        case (last,) if state.running:
            return sent(job, State(), "/interrupt", json={"prompt_id": last}, repeatable=True)
        case left:
            return sent(job, State(), "/queue", json={"delete": list(left)}, repeatable=True)


def share(state: State) -> int | None:
    """Progress in whole prompts: of one alone nothing is known."""
    return 100 * state.ended // len(state.ids) if len(state.ids) > 1 else None


def failure(entry: Entry) -> Failed | None:
    """How a prompt failed; the submit had status 200 all the same."""
    for name, said in entry.status.messages if entry.status else ():
        if name == "execution_interrupted":
            return Failed("upstream", "Somebody interrupted the job on the server.", name)
        if name == "execution_error":
            return broken(said if isinstance(said, dict) else {})
    if entry.status and entry.status.status_str == "error":
        return Failed("upstream", "The workflow failed.", "task_failed")
    return None


def broken(said: Mapping[str, Any]) -> Failed:
    """What the node that failed says."""
    kind, message = str(said.get("exception_type") or ""), str(said.get("exception_message") or "").strip()
    text = f"{said.get('node_type') or 'A node'} failed: {message or kind or 'no reason'}"
    if REFUSED.search(message):  # of nodes that call a vendor's service
        return Failed("policy", text, "moderation_blocked")
    return Failed("upstream", text, "out_of_memory" if MEMORY.search(f"{kind} {message}") else "task_failed")


def stored(flow: Workflow, entry: Entry, number: int) -> Iterator[Stored]:
    """Those of the nodes that `output` names, else all that were saved: previews are of type `temp`."""
    return (
        Stored(image.filename, image.type, image.subfolder, number)
        for node, result in entry.outputs.items()
        if not flow.output or node in flow.output
        for image in result.images or ()
        if flow.output or image.type == "output"
    )


def shown(job: Job, state: State) -> Step:
    """One picture is fetched as a call of its own, which may be signed; of several each has its address."""
    if not state.made:
        raise faults(state)[0]
    if len(state.made) == 1:
        return Wait(look(job, state, "/view", query=state.made[0].query(), read="bytes"), 0.0)
    outputs = (
        Output(url=f"{base(job.site)}/view?{urlencode(each.query())}", extra=extra(state, each)) for each in state.made
    )
    return Done(outputs=tuple(outputs), faults=faults(state))


def faults(state: State) -> tuple[Fault, ...]:
    return tuple(Fault(each.kind, each.message, code=each.code, final=True) for each in state.failed)


def extra(state: State, made: Stored) -> dict[str, Any]:
    return {} if state.seed is None else {"seed": state.seed + made.round}


class Problem(msgspec.Struct, frozen=True):
    error: Any = None
    node_errors: Any = None


class Reason(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""
    details: str = ""


class Complaint(msgspec.Struct, frozen=True):
    class_type: str = ""
    errors: tuple[Reason, ...] = ()


def check(reply: Reply) -> None:
    """A workflow that is refused says which nodes are wrong."""
    if reply.status < 400:
        return
    try:
        problem = reply.read(Problem)
        reason = msgspec.convert(problem.error or {}, Reason)
        nodes = msgspec.convert(problem.node_errors or {}, dict[str, Complaint])
    except (Fault, msgspec.ValidationError):
        by_status(reply, unread(reply))
        return
    wrong = [
        f"{node.class_type} ({name}): {error.message}: {error.details}"
        for name, node in nodes.items()
        for error in node.errors
    ]
    message = "; ".join([reason.message, *wrong[:3]]) if reason.message else unread(reply)
    if reply.status == 400 and reason.type:
        raise Fault("invalid", message, code=reason.type)
    by_status(reply, message, code=reason.type or None)
