"""Factories for events in the format of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def text(words: str, source: str = "main", call_id: str = "") -> dict[str, Any]:
    return event("AGENT_EVENT_TEXT_CHUNK", text=words, source=source, **_of(call_id))


def output(words: str) -> dict[str, Any]:
    return text(words, "tools:shell")


def call(name: str | None, arguments: str, call_id: str = "") -> dict[str, Any]:
    fields = {"tool_name": name, "args_chunk": arguments}
    return event("AGENT_EVENT_TOOL_CALL_CHUNK", **fields, **_of(call_id))


def result(name: str, value: Any, call_id: str = "") -> dict[str, Any]:
    return event("AGENT_EVENT_TOOL_RESULT", tool_name=name, result=value, **_of(call_id))


def _of(call_id: str) -> dict[str, Any]:
    return {"call_id": call_id} if call_id else {}


def long_log(count: int) -> list[dict[str, Any]]:
    """Return ``count`` events of one line each, numbered from 1."""
    return [{**output(f"line {number}\n"), "seq": number} for number in range(1, count + 1)]


def page(log: Sequence[dict[str, Any]], after: int, limit: int) -> list[dict[str, Any]]:
    """Return a page of ``log`` like a server."""
    return list(log[after : after + limit])


def with_events(log: list[dict[str, Any]], **others: dict[str, Any]) -> list[dict[str, Any]]:
    """Return ``log`` with some events replaced: ``e120=…`` replaces event 120."""
    changed = list(log)
    for name, one in others.items():
        changed[int(name[1:]) - 1] = {**one, "seq": int(name[1:])}
    return changed
