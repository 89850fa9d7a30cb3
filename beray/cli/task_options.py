"""What a task may be asked besides its goal: options of `run`, and lines of `show`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final, cast

from beray.cli import output
from beray.exceptions import ConfigurationError
from beray.schema import Limits, Task, TaskOptions, Usage

_SERVER_NAME: Final = re.compile(r"[\w-]+")
_LIMITS: Final = {"tokens": int, "requests": int, "cost_usd": float, "seconds": float}


class Asked(TaskOptions, total=False):
    """Arguments of ``create_task``; only what was asked is there."""

    tools: list[dict[str, Any]]


def asked(
    *,
    runner: str | None,
    model: str | None,
    limits: Sequence[str] | None,
    network: bool,
    gateway: bool,
    tools: Sequence[str] | None,
    tags: Sequence[str] | None,
) -> Asked:
    """What the options ask.

    Raises:
        ConfigurationError: one of them cannot be understood.
    """
    found = Asked()
    if runner is not None:
        found["runner"] = runner
    if model is not None:
        found["model"] = model
    wanted = [name for name, is_wanted in (("network", network), ("gateway", gateway)) if is_wanted]
    if limits or wanted:
        found["limits"] = _limits(limits or (), wanted)
    if tools:
        found["tools"] = [_tool(text) for text in tools]
    if tags:
        found["tags"] = list(tags)
    return found


def _limits(texts: Sequence[str], wanted: Sequence[str]) -> Limits:
    found: dict[str, Any] = dict.fromkeys(wanted, True)
    for text in texts:
        name, _, value = text.partition("=")
        if name not in _LIMITS:
            known = ", ".join(_LIMITS)
            raise ConfigurationError(f"--limit {text}: give one of {known}, such as tokens=100000")
        try:
            found[name] = _LIMITS[name](value)
            if not math.isfinite(found[name]):
                raise ValueError
        except ValueError:
            raise ConfigurationError(f"--limit {text}: {value!r} is no number for it") from None
    return cast(Limits, found)


def _tool(text: str) -> dict[str, Any]:
    """Return the MCP server that ``--tool`` names.

    ``NAME=URL``, ``NAME=`` with JSON, ``NAME=SERVER`` for one that the server's operator
    defines, or only ``SERVER``.
    """
    name, _, server = text.partition("=")
    if _SERVER_NAME.fullmatch(text):
        server = text
    if not name or not server:
        raise ConfigurationError(
            f"--tool {text}: give a name and a URL, as in docs=https://…, or the name of an MCP "
            "server that the server defines"
        )
    if _SERVER_NAME.fullmatch(server):
        return {name: {"server": server}}
    if not server.startswith("{"):
        return {name: {"url": server}}
    try:
        return {name: json.loads(server)}
    except ValueError as error:
        raise ConfigurationError(f"--tool {name}: its JSON cannot be read: {error}") from None


def note_unheard(asked: Asked, task: Task) -> None:
    """Say what a server that does not know it has left out."""
    unheard = [name for name in asked if name != "tools" and name not in task]
    if unheard:
        output.note(f"-- this server does not know: {', '.join(unheard)}")


def facts(task: Task) -> dict[str, str | None]:
    """How a task is done, in words, by what each is called."""
    limits = task.get("limits") or {}
    usage = task.get("usage")
    return {
        "runner": task.get("runner"),
        "model": task.get("model"),
        "tags": ", ".join(task.get("tags") or ()),
        "limits": ", ".join(f"{name} {_number(value)}" for name, value in limits.items()),
        "used": usage and _used(usage),
    }


def _used(usage: Usage) -> str:
    tokens = f"{usage['input_tokens']:,} input and {usage['output_tokens']:,} output tokens"
    if cached := usage.get("cache_read_tokens"):
        tokens += f" ({cached:,} of them from the cache)"
    about = "about " if usage.get("estimated") else ""
    plural = "" if usage["requests"] == 1 else "s"
    cost = usage.get("cost_usd")
    price = f", ${cost:.4f}" if cost is not None else ""
    return f"{about}{tokens} in {usage['requests']:,} request{plural}{price}"


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
