"""GET /v1/account: what a key may do, and what it has used of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec

from proxy.answer import Answer
from proxy.api.calling import calling
from proxy.api.schema import Envelope
from proxy.config import Tier
from proxy.gateway import Gateway
from proxy.keys import Caller
from proxy.prices import dollars, micros
from proxy.state.database import milliseconds
from proxy.state.history import Account, Budget, Sums


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the key may do; null is no bound."""

    models: tuple[str, ...]  # patterns of the names that may be asked for
    requests_per_minute: int | None
    images_per_minute: int | None
    concurrent_jobs: int | None
    max_n: int | None
    max_size: str | None  # 2048x2048: no picture of more pixels


class BudgetObject(msgspec.Struct, frozen=True, kw_only=True):
    """One period's money. Without a bound `limit_usd` and `remaining_usd` are null."""

    limit_usd: float | None
    spent_usd: float
    reserved_usd: float  # what running calls may still cost
    remaining_usd: float | None
    resets_at: int  # seconds since 1970


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What was made in one period."""

    requests: int
    pictures: int
    cost_usd: float | None  # null: none of it is known
    wasted_usd: float  # paid beside it for what nobody got
    unpriced: int  # of the requests, those whose cost is not known


class KeyName(msgspec.Struct, frozen=True):
    """Whose account it is."""

    id: str
    name: str
    models: tuple[str, ...]  # patterns of the names that it may ask for, within its tier's


class AccountObject(msgspec.Struct, frozen=True, kw_only=True):
    """A key's account. `budgets` and `usage` are null where the server keeps no history."""

    object: Literal["account"] = "account"
    key: KeyName
    tier: str | None
    webhook_url: str | None  # where its tasks' ends are told; `GET /v1/account/webhook` gives what they are signed with
    limits: Limits
    budgets: dict[Literal["day", "month"], BudgetObject] | None
    usage: dict[Literal["today", "month"], Used] | None


def described(caller: Caller, found: Account | None, at: int) -> AccountObject:
    """The account at a time in milliseconds since 1970; `found` is what was counted by then, where anything is."""
    tier = caller.tier
    day, month = resets(at)
    budgets: dict[Literal["day", "month"], BudgetObject] | None = None
    usage: dict[Literal["today", "month"], Used] | None = None
    if found is not None:
        budgets = {
            "day": budget(found.day_budget, tier.budget_usd_per_day, day),
            "month": budget(found.month_budget, tier.budget_usd_per_month, month),
        }
        usage = {"today": used(found.today), "month": used(found.month)}
    return AccountObject(
        key=KeyName(caller.id, caller.name, caller.models),
        tier=caller.tier_name,
        webhook_url=caller.webhook,
        limits=limits(tier),
        budgets=budgets,
        usage=usage,
    )


def limits(tier: Tier) -> Limits:
    """What a tier allows, but for its money."""
    return Limits(
        models=tier.models,
        requests_per_minute=tier.requests_per_minute,
        images_per_minute=tier.images_per_minute,
        concurrent_jobs=tier.concurrent_jobs,
        max_n=tier.max_n,
        max_size="{}x{}".format(*tier.max_size) if tier.max_size else None,
    )


def budget(found: Budget, bound: float | None, resets_at: int) -> BudgetObject:
    """One budget."""
    left = None if bound is None else max(0, micros(bound) - found.spent - found.reserved)
    return BudgetObject(
        limit_usd=bound,
        spent_usd=dollars(found.spent),
        reserved_usd=dollars(found.reserved),
        remaining_usd=dollars(left),
        resets_at=resets_at,
    )


def used(sums: Sums) -> Used:
    """One period."""
    return Used(
        requests=sums.requests,
        pictures=sums.pictures,
        cost_usd=None if sums.cost is None and sums.requests else dollars(sums.cost or 0),
        wasted_usd=dollars(sums.wasted),
        unpriced=sums.unpriced,
    )


def resets(at: int) -> tuple[int, int]:
    """When the day and the month that hold `at`, in milliseconds, end: seconds since 1970, UTC."""
    today = datetime.fromtimestamp(at / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return int((today + timedelta(days=1)).timestamp()), int(next_month.timestamp())


@get(
    "/v1/account", tags=["Account"],
    responses={
        200: ResponseSpec(AccountObject, generate_examples=False, description="The account of the key."),
        401: ResponseSpec(Envelope, generate_examples=False, description="No key, or not a good one."),
    },
)  # fmt: skip
async def account(request: Request[None, None, State]) -> Answer:
    """Tier, limits, budgets, and what this key has used."""
    gateway: Gateway = request.app.state.gateway
    caller = await calling(request)
    at = milliseconds()
    found = await gateway.history.account(caller.id, at) if gateway.config.history.enabled else None
    return Answer(200, [msgspec.json.encode(described(caller, found, at))], {})
