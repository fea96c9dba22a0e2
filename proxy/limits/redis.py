"""Limits in Redis 6 or newer, or in Valkey: one script, so one round trip, and nobody comes between.

`pictor:rate:CALLER:DIMENSION` is when a rate is full again, in microseconds by the server's clock; it goes when it is
full. `pictor:jobs:CALLER` holds the tasks that run, each with the time at which its lease ends;
`pictor:begun:CALLER` those that began within the last minute, where only so many may.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from proxy.limits.backend import LEASE, Away, Slot, Wanted
from proxy.limits.rates import SECOND, WINDOW, Admission, cost

PATIENCE = 0.25  # seconds

JUDGE = """
local at, key = 0, 0
local function word() at = at + 1 return ARGV[at] end
local function number() return tonumber(word()) end
local function name() key = key + 1 return KEYS[key] end
local function text(value) return string.format('%.0f', value) end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lease, window = number(), number()

local function rate(full, after)
  local key, interval, capacity, cost = name(), number(), number(), number()
  -- A clock that was put back must not leave anybody waiting for longer than a whole bucket.
  local before = math.min(math.max(tonumber(redis.call('GET', key) or now), now), now + capacity)
  full[#full + 1] = before
  after[#after + 1] = {key, before + interval * cost}
  return before + interval * cost <= now + capacity
end

local function running(key, task)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  redis.call('ZREMRANGEBYSCORE', key, '(' .. text(now + lease), '+inf')  -- the clock was put back
  redis.call('ZREM', key, task)  -- what is asked again counts once
  return redis.call('ZCARD', key)
end

local function begun(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - window))
  redis.call('ZREMRANGEBYSCORE', key, '(' .. text(now), '+inf')  -- the clock was put back
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return redis.call('ZCARD', key), tonumber(first[2] or 0)
end

local function judge(rates, most, minute, task)
  local full, after, admitted, jobs, count, wait = {}, {}, true, 0, 0, 0
  for _ = 1, rates do
    if not rate(full, after) then admitted = false end
  end
  local slots = most > 0 and name()
  if slots then
    jobs = running(slots, task)
    admitted = admitted and jobs < most
  end
  local beginnings = minute > 0 and name()
  if beginnings then
    local first
    count, first = begun(beginnings)
    if count >= minute then admitted, wait = false, math.max(1, first + window - now) end
  end
  if not admitted then return {0, jobs, count, wait, unpack(full)} end
  for i, each in ipairs(after) do
    full[i] = each[2]
    if each[2] > now then redis.call('SET', each[1], text(each[2]), 'PX', text(math.ceil((each[2] - now) / 1000))) end
  end
  if slots and task ~= '' then
    redis.call('ZADD', slots, text(now + lease), task)
    redis.call('PEXPIRE', slots, text(math.ceil(lease / 1000)))
  end
  if beginnings and task ~= '' then
    redis.call('ZADD', beginnings, text(now), task .. ':' .. text(now))
    redis.call('PEXPIRE', beginnings, text(math.ceil(window / 1000)))
  end
  return {1, jobs, count, wait, unpack(full)}
end

for _ = 1, number() do redis.call('ZREM', name(), word()) end
local answers = {now}
for _ = 1, number() do answers[#answers + 1] = judge(number(), number(), number(), word()) end
return answers
"""

HOLD = """
local clock = redis.call('TIME')
local lease = tonumber(ARGV[1])
local till = string.format('%.0f', clock[1] * 1000000 + clock[2] + lease)
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, till, ARGV[i + 1])
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(lease / 1000)))
end
"""


class Redis:
    """Limits in the Redis at `url`."""

    name = "redis"
    patience = PATIENCE

    def __init__(self, url: str, lease: float = LEASE) -> None:
        self.lease = lease
        # A connection that was idle may have been cut: that is tried again at once. What gave no answer is not.
        again = Retry(NoBackoff(), 1, (ConnectionError,))
        self._client = Client.from_url(
            url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=again, protocol=2
        )
        self._judge = self._client.register_script(JUDGE)
        self._hold = self._client.register_script(HOLD)

    async def run(self, ended: Sequence[Slot], wanted: Sequence[Wanted]) -> list[Admission]:
        """As `Store` has it."""
        keys = [_jobs(caller) for caller, _ in ended]
        words: list[str | int] = [int(self.lease * SECOND), WINDOW, len(ended)]
        words += (*(task for _, task in ended), len(wanted))
        for each in wanted:
            _write(each, keys, words)
        try:
            now, *answers = await self._judge(keys=keys, args=words)
        except (RedisError, OSError) as error:
            raise Away(str(error)) from error
        return [
            Admission(each.rules, each.n, bool(admitted), now, tuple(full), running, begun, wait)
            for each, (admitted, running, begun, wait, *full) in zip(wanted, answers, strict=True)
        ]

    async def hold(self, slots: Sequence[Slot]) -> None:
        """As `Store` has it."""
        rest = iter(slots)
        try:
            while True:
                some = list(islice(rest, 1000))
                await self._hold(
                    keys=[_jobs(caller) for caller, _ in some],
                    args=[int(self.lease * SECOND), *(task for _, task in some)],
                )
                if len(some) < 1000:
                    return
        except (RedisError, OSError) as error:
            raise Away(str(error)) from error

    async def aclose(self) -> None:
        """Disconnect."""
        await self._client.aclose()


def _write(wanted: Wanted, keys: list[str], words: list[str | int]) -> None:
    rules = wanted.rules
    words += (len(rules.rates), rules.jobs or 0, rules.begun or 0, wanted.task)
    for rate in rules.rates:
        keys.append(f"pictor:rate:{wanted.caller}:{rate.dimension}")
        words += (rate.interval, rate.capacity, cost(rate, wanted.n))
    if rules.jobs is not None:
        keys.append(_jobs(wanted.caller))
    if rules.begun is not None:
        keys.append(f"pictor:begun:{wanted.caller}")


def _jobs(caller: str) -> str:
    return f"pictor:jobs:{caller}"
