"""For the operator: what was made and spent, by key, model, provider, day and operation; and everybody's tasks."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream
from msgspec import UNSET, Meta, UnsetType

from proxy import invalid
from proxy.answer import Answer
from proxy.api import query
from proxy.api.admin import administered
from proxy.api.schema import Envelope
from proxy.api.tasks import CHOICES, AdminQuery, TaskList, listed, remembering
from proxy.prices import dollars
from proxy.state.history import Group, History, Span, Sums
from translators.base import Op

Format: TypeAlias = Literal["json", "csv"]
GROUPS: tuple[Group, ...] = ("day", "key", "provider", "model", "operation")
MOST = 10_000  # groups of an answer in JSON
STRETCH = 31  # days that are summed in one statement of an export by day
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take a cell for that begins with it


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sums, as a client writes it."""

    group_by: Annotated[
        tuple[str, ...], Meta(description="Any of `day`, `key`, `provider`, `model`, `operation`, with commas.")
    ] = ()
    start: Annotated[str | None, Meta(description="The first day, UTC: 2026-11-01. Default: of this month.")] = None
    end: Annotated[str | None, Meta(description="The last day, which is included. Default: today.")] = None
    key: Annotated[str | None, Meta(description="The id of a key.")] = None
    provider: Annotated[str | None, Meta(description="Its name.")] = None
    model: Annotated[str | None, Meta(description="As it answered, with its provider or without.")] = None
    operation: Annotated[Op | None, Meta(description="What was to be done.")] = None
    format: Annotated[Format | None, Meta(description="Default: what `Accept` says, else `json`.")] = None


class UsageSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of one group; what they are not grouped by is left out. `failed` and `unpriced` are among `requests`."""

    object: Literal["usage"] = "usage"
    day: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    key_name: str | UnsetType | None = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    operation: str | UnsetType = UNSET
    requests: int
    failed: int
    pictures: int
    cost_usd: float | None  # what is known; null: of none it is
    wasted_usd: float  # paid beside it for what nobody got
    unpriced: int  # whose cost is not known


class UsageList(msgspec.Struct, frozen=True, kw_only=True):
    """All groups that have any entries, in their order."""

    object: Literal["list"] = "list"
    start: str
    end: str
    group_by: list[Group]
    data: list[UsageSums]
    has_more: bool = False


@get(
    "/v1/admin/tasks", operation_class=query.documented(AdminQuery), tags=["Admin"],
    responses={200: ResponseSpec(TaskList, generate_examples=False, description="A page.")},
)  # fmt: skip
async def tasks(request: Request[None, None, State]) -> Answer:
    """The making calls of all keys, the newest first."""
    remembering(await administered(request))
    wanted = query.read(request.query_params.multi_items(), AdminQuery, CHOICES)
    return await listed(request, wanted, wanted.key, with_key=True)


@get(
    "/v1/admin/usage", operation_class=query.documented(UsageQuery), tags=["Admin"],
    responses={
        200: ResponseSpec(UsageList, generate_examples=False, description="The sums; as CSV where that is asked for."),
        403: ResponseSpec(Envelope, generate_examples=False, description="The key is no admin key."),
    },
)  # fmt: skip
async def usage(request: Request[None, None, State]) -> Response[Any]:
    """What was made and spent."""
    gateway = await administered(request)
    remembering(gateway)
    choices = {"operation": CHOICES["operation"], "format": get_args(Format)}
    wanted = query.read(request.query_params.multi_items(), UsageQuery, choices)
    groups, span = grouped(wanted), spanned(wanted, datetime.now(UTC).date())
    if (wanted.format or preferred(request.headers)) == "csv":
        name = f"usage-{span.first}-{span.last}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        parts = exported(gateway.history, span, groups)
        first = await anext(parts)  # a database that is away is told before the answer has begun
        return Stream(continued(first, parts), headers=headers, media_type="text/csv; header=present")
    sums = await gateway.history.usage(span, groups, MOST + 1)
    if len(sums) > MOST:
        text = f"That are more than {MOST} groups. Ask for fewer days or groups, or for format=csv."
        raise invalid.invalid_value("group_by", text)
    return Response(await asyncio.to_thread(told, span, groups, sums), media_type="application/json")


def told(span: Span, groups: Sequence[Group], sums: Sequence[Sums]) -> bytes:
    """The sums as JSON. There may be very many: for a thread."""
    data = [described(each, groups) for each in sums]
    return msgspec.json.encode(UsageList(start=span.first, end=span.last, group_by=list(groups), data=data))


def preferred(headers: Mapping[str, str]) -> Format:
    """What the client would rather have; what it does not name is not asked for."""
    kinds = [part.partition(";")[0].strip().lower() for part in headers.get("accept", "").split(",")]
    return "csv" if "text/csv" in kinds and "application/json" not in kinds else "json"


def grouped(wanted: UsageQuery) -> tuple[Group, ...]:
    """By what is summed up, in the order of the columns. Raises `Fault("invalid")`."""
    for name in wanted.group_by:
        if name not in GROUPS:
            raise invalid.unsupported_value("group_by", name, GROUPS)
    return tuple(name for name in GROUPS if name in wanted.group_by)


def spanned(wanted: UsageQuery, today: date) -> Span:
    """Which entries. Raises `Fault("invalid")`."""
    last = day("end", wanted.end) or today
    first = day("start", wanted.start) or last.replace(day=1)
    if last < first:
        raise invalid.invalid_value("end", f"Invalid 'end': {last} is before the start, {first}.")
    return Span(
        first=first.isoformat(),
        last=last.isoformat(),
        key=wanted.key,
        provider=wanted.provider,
        model=wanted.model,
        operation=wanted.operation,
    )


def day(name: str, text: str | None) -> date | None:
    """A day as it was written. Raises `Fault("invalid")`."""
    if text is None:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:  # 20261101 and 2026-W45-1 are days too
        text = f"Invalid '{name}': expected a day such as 2026-11-01, but got '{invalid.clip(text)}'."
        raise invalid.invalid_value(name, text)
    return found


def described(sums: Sums, groups: Sequence[Group]) -> UsageSums:
    """One group as it is told."""
    by: dict[str, Any] = {name: getattr(sums, name) for name in groups}
    if "key" in groups:
        by["key_name"] = named(sums)
    return UsageSums(
        **by,
        requests=sums.requests,
        failed=sums.failed,
        pictures=sums.pictures,
        cost_usd=dollars(sums.cost),
        wasted_usd=dollars(sums.wasted),
        unpriced=sums.unpriced,
    )


def named(sums: Sums) -> str | None:
    """The name of a group's key, which one of the configuration has in its id; null: the key is known no more."""
    id = sums.key or ""
    return sums.name or (id.removeprefix("config:") if id.startswith("config:") or id == "anyone" else None)


async def exported(history: History, span: Span, groups: Sequence[Group]) -> AsyncIterator[bytes]:
    """The sums as CSV (RFC 4180), some days at a time where they are grouped by day."""
    names = [name for each in groups for name in ((each, "key_name") if each == "key" else (each,))]
    columns = [*names, "requests", "failed", "pictures", "cost_usd", "wasted_usd", "unpriced"]
    head = lines([columns])
    for stretch in stretches(span) if "day" in groups else (span,):
        found = await history.usage(stretch, groups)
        yield head + await asyncio.to_thread(written, found, groups, columns)
        head = b""


def written(found: Iterable[Sums], groups: Sequence[Group], columns: Sequence[str]) -> bytes:
    """The groups as lines. There may be very many: for a thread."""
    rows = (msgspec.structs.asdict(described(each, groups)) for each in found)
    return lines([cell(row[name]) for name in columns] for row in rows)


async def continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`first`, and then the others."""
    yield first
    async for each in rest:
        yield each


def stretches(span: Span) -> Iterable[Span]:
    """The same days, a month's worth at a time."""
    first, last = date.fromisoformat(span.first), date.fromisoformat(span.last)
    for start in range(first.toordinal(), last.toordinal() + 1, STRETCH):
        end = min(last, date.fromordinal(start) + timedelta(days=STRETCH - 1))
        yield msgspec.structs.replace(span, first=date.fromordinal(start).isoformat(), last=end.isoformat())


def cell(value: str | float | None) -> str:
    """A value as a cell of a table; a text is never a formula."""
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case float():
            return f"{value:.6f}"
        case _:
            return str(value)


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Lines of CSV, each with CRLF at its end."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
