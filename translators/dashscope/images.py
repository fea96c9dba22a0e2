"""DashScope's pictures: four layouts of one request, and answers that differ as much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from translators.base import Call, Done, Fault, Inline, Job, Media, Output, Reply, Step, Wait, data_url, prompted
from translators.dashscope import uploads
from translators.dashscope.faults import Problem, fault
from translators.dashscope.models import Wire, wire
from translators.shapes import nothing

ASYNC = {"X-DashScope-Async": "enable"}
SOON, LATE, EARLY_POLLS = 3.0, 10.0, 10
"""As the vendor advises: every three seconds for half a minute, then more slowly. An account has 20 polls a second."""

# ---- what is sent


def start(job: Job) -> Step:
    check_job(job)
    return uploads.ask(job) if uploads.large(pictures(job)) else submit(job)


def pictures(job: Job) -> tuple[Media, ...]:
    return (*job.images, job.mask) if job.mask else job.images


NEGATIVE_CHARS = 500
AT_MOST_WITH_PICTURES = 2048 * 2048


def check_job(job: Job) -> None:
    """Refuse what the service would cut without a word, or tell of in riddles."""
    if len(job.negative_prompt or "") > NEGATIVE_CHARS:
        text = f"'negative_prompt' may have {NEGATIVE_CHARS} characters here."
        raise Fault("invalid", text, code="string_above_max_length", param="negative_prompt")
    if not job.model.startswith("wan2.7"):
        return
    if job.images or job.options.get("enable_sequential"):
        area = job.size[0] * job.size[1] if job.size else 0
        if area > AT_MOST_WITH_PICTURES or job.resolution == "4K":
            text = "From pictures, and in a set, this model makes at most 2048x2048 pixels."
            raise Fault("invalid", text, code="invalid_value", param="size" if job.size else "resolution")


def submit(job: Job, stored: Sequence[str] = ()) -> Call:
    """The request for the pictures; `stored` are the addresses of those that were uploaded, in their order."""
    by = wire(job.model)
    addresses = iter(stored)
    sent = [picture_in(picture, addresses) for picture in pictures(job)]
    options = dict(job.options)
    inner: dict[str, Any] = {}
    if by.layout == "function":
        inner["function"] = function(job, options.pop("function", None))
    inner |= content(job, by, sent)
    given = {"size": sized(job), "n": count(job), "seed": job.seed, "watermark": job.watermark}
    if job.negative_prompt is not None:
        (given if by.layout == "messages" else inner)["negative_prompt"] = job.negative_prompt
    parameters = {name: value for name, value in given.items() if value is not None} | options
    return Call(
        path=by.path,
        headers=(ASYNC if by.task else {}) | (uploads.RESOLVE if stored else {}),
        json={"model": job.model, "input": inner, "parameters": parameters},
    )


def picture_in(picture: Media, stored: Iterator[str]) -> str | Inline:
    """A picture as a request holds it: by an address that it has or was given, or itself."""
    if picture.url:
        return picture.url
    return next(stored) if uploads.large((picture,)) else data_url(picture)


def content(job: Job, by: Wire, sent: Sequence[str | Inline]) -> dict[str, Any]:
    """`input`: prompt and pictures."""
    prompt = prompted(job)
    match by.layout:
        case "messages":
            parts = [*({"image": picture} for picture in sent), {"text": prompt}]
            return {"messages": [{"role": "user", "content": parts}]}
        case "images":
            return {"prompt": prompt, "images": list(sent)}
        case "function":
            names = ("base_image_url", "mask_image_url")
            return {"prompt": prompt, **dict(zip(names, sent, strict=False))}
        case _:
            return {"prompt": prompt} | ({"ref_img": sent[0]} if sent else {})


INPAINT = "description_edit_with_mask"


def function(job: Job, said: object) -> object:
    """What `wanx2.1-imageedit` is to do: what was said, as long as it agrees with the mask."""
    if said is None:
        return INPAINT if job.mask else "description_edit"
    if job.mask and said != INPAINT:
        raise Fault(
            "invalid", f"The function {said} takes no mask; {INPAINT} does.", code="invalid_value", param="mask"
        )
    if said == INPAINT and not job.mask:
        raise Fault("invalid", f"The function {INPAINT} needs a mask.", code="missing_required_parameter", param="mask")
    return said


def sized(job: Job) -> str | None:
    return "{}*{}".format(*job.size) if job.size else job.resolution


LARGEST_SET = 12


def count(job: Job) -> int:
    """Always sent, as older models make four unasked. One picture is no set: then the vendor's own number counts."""
    return LARGEST_SET if job.options.get("enable_sequential") is True and job.n == 1 else job.n


# ---- what comes back


class Piece(msgspec.Struct, frozen=True):
    """A part of a message: a picture or a text."""

    image: str | None = None
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """What a choice holds."""

    content: list[Piece] | str | None = None


class Choice(msgspec.Struct, frozen=True):
    """Qwen puts several pictures into one, Wan makes one of each."""

    message: Message | None = None


class Made(Problem, frozen=True):
    """One of `results`: a picture, or why there is none."""

    url: str | None = None
    actual_prompt: str | None = None  # what the rewriting of prompts made of it


class Answered(msgspec.Struct, frozen=True):
    """`output`, of a task and of an answer at once."""

    task_id: str | None = None
    task_status: str | None = None
    results: list[Made] | None = None
    choices: list[Choice] | None = None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. How it counts pictures and tokens differs from model to model, and prices do not need it."""

    output: Answered | None = None


def step(job: Job, reply: Reply) -> Step:
    call = reply.call
    if uploads.is_asking(call):
        return uploads.post(uploads.large(pictures(job))[0], uploads.granted(reply))
    if call.anonymous:
        return uploaded(job, call)
    output = reply.read(Answer).output or Answered()
    if call.method == "GET":
        return finished(job, output, reply) if output.task_status == "SUCCEEDED" else again(call, output)
    if not wire(job.model).task:
        return finished(job, output, reply)
    if not output.task_id:
        raise Fault("upstream", "The provider took the job without naming a task.", code="no_task")
    return Wait(Call(method="GET", path=f"/tasks/{quote(output.task_id, safe='')}", repeatable=True, state="1"), SOON)


def uploaded(job: Job, call: Call) -> Step:
    """The next upload, or the job itself."""
    state = uploads.resumed(call)
    left = uploads.large(pictures(job))[len(state.stored) :]
    return uploads.post(left[0], state) if left else submit(job, state.stored)


def cancel(job: Job, waiting: Call) -> Call:
    """Only a pending task can be stopped; of another the service says that it cannot."""
    return Call(path=f"{waiting.path}/cancel", repeatable=True)


def again(call: Call, output: Answered) -> Wait:
    """The next poll; its state counts them."""
    polls = int(call.state)
    queued = output.task_status in {"PENDING", "SUSPENDED"}
    return Wait(replace(call, state=str(polls + 1)), SOON if polls < EARLY_POLLS else LATE, queued=queued)


def finished(job: Job, output: Answered, reply: Reply) -> Done:
    """The pictures, wherever they stand. One that was refused does not fail the others."""
    outputs = [*said(job, output.choices or ())]
    faults: list[Fault] = []
    for made in output.results or ():
        if made.url:
            revised = made.actual_prompt if made.actual_prompt != job.prompt else None
            outputs.append(Output(url=made.url, revised_prompt=revised or None))
        else:
            faults.append(fault(made, reply) if made.code else nothing())
    if not outputs:
        raise faults[0] if faults else nothing()
    return Done(outputs=tuple(outputs), faults=tuple(faults))


def said(job: Job, choices: Sequence[Choice]) -> list[Output]:
    """The pictures of messages. Texts stand before their pictures; Z-Image's is the prompt it made of the client's."""
    found: list[Output] = []
    texts: list[str] = []
    lists = [choice.message.content for choice in choices if choice.message]
    for piece in [piece for content in lists if isinstance(content, list) for piece in content]:
        if piece.image:
            found.append(Output(url=piece.image, extra=told(job, texts)))
            texts = []
        elif piece.text:
            texts.append(piece.text)
    if found and texts:
        found[-1] = replace(found[-1], extra=told(job, [*filter(None, [found[-1].extra.get("text")]), *texts]))
    if job.model.startswith("z-image"):
        return [rewritten(job, output) for output in found]
    return found


def told(job: Job, texts: Sequence[str]) -> dict[str, str]:
    text = "\n".join(texts)
    return {"text": text} if text else {}


def rewritten(job: Job, output: Output) -> Output:
    text = output.extra.get("text")
    return replace(output, extra={}, revised_prompt=text if text != job.prompt else None)
