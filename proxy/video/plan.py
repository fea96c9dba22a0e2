"""What to ask of which model: `VideoAsk` x targets -> one settled `VideoJob` each, and notes on what could not be had.

Pure. What becomes of each field stands in `decide`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from proxy import sizes
from proxy.catalog import Target
from proxy.decide import Note, decide_options
from proxy.plan import PROVIDERS, Finish, Plan, able, named, refuse_noted
from proxy.video.ask import Inputs, VideoAsk
from proxy.video.decide import DECISIONS, WEIGHED, check_pictures, check_task, decide_clip, upright
from proxy.video.lengths import lines, pixels_of, scaled
from translators.base import Fault, Size
from translators.video import VideoCaps, VideoJob


def plans(
    ask: VideoAsk, inputs: Inputs, targets: Sequence[Target[VideoCaps]], strict: bool = False
) -> tuple[Plan[VideoCaps], ...]:
    """A plan for each target that can do it, in their order. Raises the first target's fault where none can."""
    providers = named(targets)
    return able(targets, lambda target: plan(ask, inputs, target, strict=strict, providers=providers))


def plan(
    ask: VideoAsk, inputs: Inputs, target: Target[VideoCaps], *, strict: bool = False,
    providers: Collection[str] = PROVIDERS,
) -> Plan[VideoCaps]:  # fmt: skip
    """The work for one target. Raises `Fault("invalid")` where it cannot do it, or, if `strict`, not all of it.

    `provider_options` are keyed, or not, as with pictures. What nobody asked for is left to the model.
    """
    caps = target.caps
    check_task(ask, caps)
    check_pictures(ask, caps)
    decisions = [decide(ask, caps) for _, decide in DECISIONS]
    decisions += [weigh(ask, inputs, caps) for _, weigh in WEIGHED]
    decisions.append(decide_clip(ask, inputs, target))
    if ask.provider_options:
        decisions.append(decide_options(ask, target, providers))
    members: dict[str, Any] = {"first": inputs.first, "last": inputs.last, "references": inputs.references}
    notes: tuple[Note, ...] = ()
    for decision in decisions:
        members.update(decision.job)
        notes += decision.notes
    if strict:
        refuse_noted(notes)
    job = VideoJob(op="video", model=target.model, site=target.upstream.site, task=ask.task, **members)
    return Plan(target=target, jobs=(job,), finish=Finish(respond="url"), notes=notes)


def check_possible(ask: VideoAsk, targets: Sequence[Target[VideoCaps]]) -> None:
    """Refuse what no target does, before the client's pictures are fetched for it."""
    refused: list[Fault] = []
    for target in targets:
        try:
            check_task(ask, target.caps)
            check_pictures(ask, target.caps)
        except Fault as fault:
            refused.append(fault)
        else:
            return
    raise refused[0]


def rehearsed(job: VideoJob, target: Target[VideoCaps]) -> VideoJob:
    """`job`, once its translator has put it into words: limits that no table tells are refused before anything is paid.

    Not where a picture or clip has yet to get the address by which the provider takes it; nor where there is no wire,
    for then saying it is making it.
    """
    caps = target.caps
    pictures = (job.first, job.last, *job.references)
    unaddressed = [each for each in pictures if caps.inputs == "url" and each is not None and each.url is None]
    if caps.clip_inputs == "url" and job.clip is not None and job.clip.url is None:
        unaddressed.append(job.clip)
    if target.upstream.base and not unaddressed:
        target.upstream.translator.start(job)
    return job


class Expected(msgspec.Struct, frozen=True):
    """How the video will be, as far as anybody knows before it is there."""

    seconds: int | None
    size: Size


def job_of(planned: Plan[VideoCaps]) -> VideoJob:
    """Its only job."""
    (job,) = planned.jobs
    if not isinstance(job, VideoJob):
        raise TypeError("a plan for pictures")
    return job


def expected(job: VideoJob, inputs: Inputs, caps: VideoCaps) -> Expected:
    """What a video is told to be while it is made. What is delivered is measured."""
    return Expected(_length(job, inputs, caps), _size(job, inputs, caps))


def _length(job: VideoJob, inputs: Inputs, caps: VideoCaps) -> int | None:
    own = None if inputs.origin_seconds is None else round(inputs.origin_seconds)
    if job.task == "create":
        return job.seconds or caps.usual_seconds or (caps.seconds[0] if len(caps.seconds) == 1 else None)
    if job.task != "extend":
        return job.seconds or own
    added = job.seconds or (caps.extra_seconds[0] if len(caps.extra_seconds) == 1 else None)
    return None if own is None or added is None else own + added


USUAL = 720  # the shorter edge, where nothing is said of it


def _size(job: VideoJob, inputs: Inputs, caps: VideoCaps) -> Size:
    resolution = job.resolution or caps.usual_resolution or None
    short = (lines(resolution) if resolution else None) or USUAL
    shape = sizes.parse_ratio(job.ratio) if job.ratio else None
    if size := pixels_of(sizes.Choice(size=job.size, ratio=job.ratio, resolution=resolution), caps):
        return size
    if shape is None and (media := inputs.first or inputs.clip):
        width, height = upright(media)
        shape = width / height if width and height else None
    if shape is None and caps.sizes:
        return caps.sizes[0]
    if shape is not None:
        return scaled(shape, short)
    usual = caps.ratios[0] if caps.ratios else "16:9"
    known = pixels_of(sizes.Choice(ratio=usual, resolution=resolution), caps)
    return known or scaled(sizes.parse_ratio(usual) or 16 / 9, short)
