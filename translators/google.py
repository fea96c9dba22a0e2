"""What Google's generative services answer: candidates, predictions, counts, and errors. Shared by their translators,
and the sizes of Gemini's pictures by all who sell them.

A refusal is HTTP 200 with a reason in place of the picture, and a bad key is HTTP 400: the body decides, the status
comes second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from translators.base import BY_STATUS, Blob, Done, Fault, FaultKind, Job, Output, Reply, Size, Usage, retry_after

TEN = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
FOURTEEN = (*TEN, "1:4", "4:1", "1:8", "8:1")

AT_1K: dict[str, Size] = {
    "1:1": (1024, 1024), "2:3": (848, 1264), "3:2": (1264, 848), "3:4": (896, 1200), "4:3": (1200, 896),
    "4:5": (928, 1152), "5:4": (1152, 928), "9:16": (768, 1376), "16:9": (1376, 768), "21:9": (1584, 672),
    "1:4": (512, 2048), "4:1": (2048, 512), "1:8": (384, 3072), "8:1": (3072, 384),
}  # fmt: skip
AT_2_5: dict[str, Size] = {
    "1:1": (1024, 1024), "2:3": (832, 1248), "3:2": (1248, 832), "3:4": (864, 1184), "4:3": (1184, 864),
    "4:5": (896, 1152), "5:4": (1152, 896), "9:16": (768, 1344), "16:9": (1344, 768), "21:9": (1536, 672),
}  # fmt: skip
# Edges against the table for 1K, in halves. For 21:9 at 512 the documents print 792x168, which is no 21:9.
HALVES = {"512": 1, "1K": 2, "2K": 4, "4K": 8}


def pixels(at_1k: Mapping[str, Size], ratios: tuple[str, ...], resolutions: tuple[str, ...]) -> dict[str, Size]:
    """`16:9@2K` -> width, height: every resolution is the same table, scaled."""
    return {
        f"{ratio}@{resolution}": (
            at_1k[ratio][0] * HALVES[resolution] // 2,
            at_1k[ratio][1] * HALVES[resolution] // 2,
        )
        for ratio in ratios
        for resolution in resolutions
    }


REASONS: dict[str, FaultKind] = {
    "API_KEY_INVALID": "auth",
    "API_KEY_EXPIRED": "auth",
    "CREDENTIALS_MISSING": "auth",
    "ACCESS_TOKEN_EXPIRED": "auth",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": "auth",
    "API_KEY_SERVICE_BLOCKED": "permission",
    "SERVICE_DISABLED": "permission",
    "BILLING_DISABLED": "quota",
}
STATUSES: dict[str, FaultKind] = {
    "INVALID_ARGUMENT": "invalid",
    "FAILED_PRECONDITION": "permission",  # billing apart: the country is not served
    "OUT_OF_RANGE": "invalid",
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "missing",
    "RESOURCE_EXHAUSTED": "rate",
    "CANCELLED": "upstream",
    "INTERNAL": "upstream",
    "UNKNOWN": "upstream",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
}
FINISHES: dict[str, FaultKind] = {
    "SAFETY": "policy",
    "BLOCKLIST": "policy",
    "PROHIBITED_CONTENT": "policy",
    "SPII": "policy",
    "RECITATION": "policy",
    "MODEL_ARMOR": "policy",
    "IMAGE_SAFETY": "policy",
    "IMAGE_PROHIBITED_CONTENT": "policy",
    "IMAGE_RECITATION": "policy",
    "LANGUAGE": "invalid",
    "MISSING_THOUGHT_SIGNATURE": "invalid",
    "MALFORMED_RESPONSE": "upstream",
    "MALFORMED_FUNCTION_CALL": "upstream",
    "UNEXPECTED_TOOL_CALL": "upstream",
    "TOO_MANY_TOOL_CALLS": "upstream",
}  # every other one: success without a picture
GOOD = frozenset({"", "STOP", "FINISH_REASON_UNSPECIFIED", "CONTINUATION"})
PARAMS = {"aspectratio": "aspect_ratio", "imagesize": "resolution", "seed": "seed", "safetysetting": "moderation"}


class InlineData(msgspec.Struct, frozen=True):
    """A picture in an answer."""

    data: str = ""


class AnswerPart(msgspec.Struct, frozen=True, rename="camel"):
    """A picture, a text, or a draft of either (`thought`)."""

    text: str = ""
    thought: bool = False
    inline_data: InlineData | None = None


class Content(msgspec.Struct, frozen=True):
    """What a candidate holds; without `parts` where it was refused."""

    parts: tuple[AnswerPart, ...] = ()


class Candidate(msgspec.Struct, frozen=True, rename="camel"):
    """One answer of a native model."""

    content: Content = Content()
    finish_reason: str = ""
    finish_message: str = ""


class Feedback(msgspec.Struct, frozen=True, rename="camel"):
    """Why a prompt was refused."""

    block_reason: str = ""
    block_reason_message: str = ""


class Modality(msgspec.Struct, frozen=True, rename="camel"):
    """Tokens of one kind."""

    modality: str = ""
    token_count: int = 0


class Count(msgspec.Struct, frozen=True, rename="camel"):
    """What was counted."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int = 0
    prompt_tokens_details: tuple[Modality, ...] = ()
    candidates_tokens_details: tuple[Modality, ...] = ()


class Prediction(msgspec.Struct, frozen=True, rename="camel"):
    """One of Imagen's pictures, or why it is not there."""

    bytes_base64_encoded: str = ""
    prompt: str | None = None
    rai_filtered_reason: str = ""


class Violation(msgspec.Struct, frozen=True, rename="camel"):
    """A quota that is used up, or a field that is wrong."""

    field: str = ""
    quota_value: str | int = ""


class Detail(msgspec.Struct, frozen=True, rename="camel"):
    """One of `google.rpc`'s messages: ErrorInfo, RetryInfo, QuotaFailure, BadRequest."""

    reason: str = ""
    retry_delay: str = ""
    violations: tuple[Violation, ...] = ()
    field_violations: tuple[Violation, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """Google's error envelope."""

    code: int = 0
    message: str = ""
    status: str = ""
    details: tuple[Detail, ...] = ()


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Any reply: of a native model, of Imagen, or an error."""

    candidates: tuple[Candidate, ...] = ()
    prompt_feedback: Feedback | None = None
    usage_metadata: Count | None = None
    predictions: tuple[Prediction, ...] = ()
    error: Problem | None = None

    @property
    def parts(self) -> list[AnswerPart]:
        return [part for candidate in self.candidates for part in candidate.content.parts]

    @property
    def words(self) -> str:
        """What the model says instead of, or beside, a picture."""
        return "".join(part.text for part in self.parts if not part.thought).strip()[:500]


def answer_in(reply: Reply) -> Answer:
    """The reply's body; an error may come wrapped in a list."""
    if reply.data.lstrip().startswith(b"["):
        return next(iter(reply.read(list[Answer])), Answer())
    return reply.read(Answer)


def worded(fault: Fault, hint: str) -> Fault:
    """`fault` with a further sentence."""
    return Fault(fault.kind, f"{fault.message} {hint}".strip(), code=fault.code, param=fault.param, usage=fault.usage)


def fault_in(reply: Reply) -> Fault | None:
    """What went wrong according to `reply`: its body first, then its status."""
    if reply.status >= 400:
        try:
            problem = answer_in(reply).error
        except Fault:  # a page of some proxy on the way
            problem = None
        return problem_fault(problem or Problem(message=f"Google answered HTTP {reply.status}."), reply)
    answer = answer_in(reply)
    if answer.error:
        return problem_fault(answer.error, reply)
    if answer.prompt_feedback and (reason := answer.prompt_feedback.block_reason):
        text = answer.prompt_feedback.block_reason_message or answer.words
        return Fault("policy", f"Google refused the prompt: {reason}. {text}".strip(), code="moderation_blocked")
    if any(not draft for draft, _ in pictures(answer, reply)):
        return None
    return next((finish_fault(one, answer) for one in answer.candidates if one.finish_reason not in GOOD), None)


def finish_fault(candidate: Candidate, answer: Answer) -> Fault:
    """Why a candidate has no picture."""
    reason = candidate.finish_reason
    kind = FINISHES.get(reason, "empty")
    text = candidate.finish_message or answer.words
    usage = spent(answer.usage_metadata)
    if kind == "policy":
        text = f"Google refused this picture: {reason}. {text}".strip()
        return Fault(kind, text, code="moderation_blocked", usage=usage)
    return Fault(kind, f"Google made no picture: {reason}. {text}".strip(), code=reason, usage=usage)


def problem_fault(problem: Problem, reply: Reply) -> Fault:
    """Google's error envelope as a fault."""
    status = problem.code or reply.status
    reason = next((detail.reason for detail in problem.details if detail.reason), "")
    code = reason or problem.status or None
    message = problem.message or f"Google answered HTTP {status}."
    kind = (
        REASONS.get(reason)
        or STATUSES.get(problem.status)
        or BY_STATUS.get(status)
        or ("upstream" if status >= 500 else "invalid")
    )
    lowered = message.lower()
    if kind == "invalid" and "support codes" in lowered:  # how Imagen refuses a prompt
        kind, code = "policy", "moderation_blocked"
    if kind == "permission" and problem.status == "FAILED_PRECONDITION" and "billing" in lowered:
        kind = "quota"
    if kind == "rate" and not_allowed(problem):
        kind = "quota"
    return Fault(
        kind,
        message,
        code=code,
        param=named_param(problem) if kind == "invalid" else None,
        retry_after=retry_delay(problem, reply) if kind in {"rate", "overloaded"} else None,
    )


def not_allowed(problem: Problem) -> bool:
    """Whether the limit itself is zero: the project has no paid tier, and waiting does not help."""
    values = [violation.quota_value for detail in problem.details for violation in detail.violations]
    return any(str(value) == "0" for value in values) or bool(re.search(r"\blimit: 0\b", problem.message))


def named_param(problem: Problem) -> str | None:
    """The field that was refused, in the client's words."""
    for detail in problem.details:
        for violation in detail.field_violations:
            field = violation.field.replace("_", "").lower()
            if found := next((ours for theirs, ours in PARAMS.items() if theirs in field), None):
                return found
    return None


def retry_delay(problem: Problem, reply: Reply) -> float | None:
    """Seconds from `RetryInfo` ("37s"), else from the header, which is rarely there."""
    for detail in problem.details:
        if re.fullmatch(r"\d+(\.\d+)?s", detail.retry_delay):
            return float(detail.retry_delay[:-1])
    return retry_after(reply)


def pictures(answer: Answer, reply: Reply) -> list[tuple[bool, Blob]]:
    """The pictures of a native model in turn, each with whether it is a draft."""
    return [
        (part.thought, reply.blob(part.inline_data.data))
        for part in answer.parts
        if part.inline_data and part.inline_data.data
    ]


def predicted(job: Job, answer: Answer, reply: Reply) -> Done:
    """Imagen's pictures; each that was filtered is a fault, also where the answer leaves it out."""
    outputs = tuple(
        Output(blob=reply.blob(one.bytes_base64_encoded), revised_prompt=one.prompt)
        for one in answer.predictions
        if one.bytes_base64_encoded
    )
    reasons = [one.rai_filtered_reason for one in answer.predictions if one.rai_filtered_reason]
    reasons += ["no reason is given."] * (job.n - len(outputs) - len(reasons))
    faults = tuple(
        Fault("policy", f"Google filtered this picture: {reason}", code="moderation_blocked") for reason in reasons
    )
    if not outputs:
        raise faults[0]
    return Done(outputs=outputs, faults=faults)


def counted(count: Count | None) -> Usage:
    """Tokens by kind. Thoughts are charged as text; output without details is the picture."""
    if count is None:
        return Usage()
    given = {one.modality: one.token_count for one in count.prompt_tokens_details}
    made = {one.modality: one.token_count for one in count.candidates_tokens_details}
    total = count.candidates_token_count
    image = made.get("IMAGE", 0) if made else total
    return Usage(
        input_text=given.get("TEXT", 0) if given else count.prompt_token_count,
        input_image=given.get("IMAGE", 0) if given else None,
        output_text=None if total is None else max(total - (image or 0), 0) + count.thoughts_token_count,
        output_image=image,
    )


def spent(count: Count | None) -> Usage | None:
    """What an answer without a picture was billed for: its words and thoughts, and pictures only where it says so."""
    if count is None:
        return None
    usage = counted(count)
    if count.candidates_tokens_details:
        return usage
    words = (count.candidates_token_count or 0) + count.thoughts_token_count
    return replace(usage, output_image=0, output_text=words)
