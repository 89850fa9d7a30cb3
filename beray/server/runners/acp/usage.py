"""The tokens and the money of a session, as far as the agent tells them.

Source: ACP, ``usage_update`` and the ``usage`` of an answer to a prompt.
"""

from __future__ import annotations

import math
from dataclasses import replace

from acp.schema import Usage as ToldUsage
from acp.schema import UsageUpdate

from beray.server.runners.base import Usage


def so_far(usage: Usage, update: UsageUpdate) -> Usage:
    """What is known while the agent works.

    It tells how full its context is, not what it has sent in all: that is the least it can
    have been, so it is taken, as a guess, until the answer says more.
    """
    used = max(usage.input_tokens, update.used)
    cost = usage.cost_usd
    if update.cost is not None and update.cost.currency.upper() == "USD":
        amount = update.cost.amount
        cost = amount if math.isfinite(amount) and amount >= 0 else cost
    return replace(usage, input_tokens=used, cost_usd=cost, estimated=True)


def in_all(usage: Usage, told: ToldUsage | None) -> Usage:
    """What is known at the end."""
    if told is None:
        return usage
    # Agents differ in whether input holds the cache, and output the thoughts: the total decides.
    missing = max(told.total_tokens - told.input_tokens - told.output_tokens, 0)
    thoughts = min(told.thought_tokens or 0, missing)
    return Usage(
        input_tokens=told.input_tokens + missing - thoughts,
        output_tokens=told.output_tokens + thoughts,
        cache_read_tokens=told.cached_read_tokens or 0,
        cache_write_tokens=told.cached_write_tokens or 0,
        cost_usd=usage.cost_usd,
    )
