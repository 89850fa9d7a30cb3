"""Result of a run, as the gateway returns it.

Source: docs/reference/wire.md, ``POST /v1/internal/run``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

_MAX_FILES: Final = 1000


@dataclass(frozen=True)
class RunFile:
    """Output file of a run."""

    key: str
    url: str

    @property
    def name(self) -> str:
        """File name. It is untrusted."""
        return unquote(self.url.rpartition("/")[2]) or self.url


@dataclass(frozen=True)
class RunProblem:
    """Error of a failed run."""

    code: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class RunOutcome:
    """Result of a run that has ended.

    Attributes:
        result: Return value of the function.
        files: Output files in the order of their keys.
        problem: Error of a failed run, or None.
        refusal: Message of a result with ``"success": false``: the function ran and reports
            that it could not do what was requested.
    """

    result: Any = None
    files: tuple[RunFile, ...] = ()
    problem: RunProblem | None = None
    refusal: str = ""


def outcome_of_result(data: object) -> RunOutcome:
    """Return the outcome of a ``done`` event."""
    fields = data if isinstance(data, Mapping) else {}
    outer = fields.get("output")
    if not isinstance(outer, Mapping):
        return RunOutcome(outer)
    result = outer.get("output")
    return RunOutcome(result, tuple(_files(outer.get("files"))), refusal=_refusal(result))


def outcome_of_error(data: object) -> RunOutcome:
    """Return the outcome of an ``error`` event."""
    fields = data if isinstance(data, Mapping) else {"message": data}
    code, message = _text(fields.get("code")), _text(fields.get("message"))
    traceback = _text(fields.get("traceback"))
    return RunOutcome(problem=RunProblem(code or "FAILED", message or "The run failed.", traceback))


def _files(fields: object) -> Iterator[RunFile]:
    left = _MAX_FILES
    for key, urls in fields.items() if isinstance(fields, Mapping) else ():
        for url in urls if isinstance(urls, list) else ():
            if isinstance(key, str) and isinstance(url, str) and left:
                left -= 1
                yield RunFile(key, url)


def _refusal(result: object) -> str:
    """Return the message of a result with ``"success": false``, a convention of prefabs."""
    if not isinstance(result, Mapping) or result.get("success") is not False:
        return ""
    error = result.get("error")
    fields = error if isinstance(error, Mapping) else result
    messages = [_text(fields.get(word)) for word in ("message", "error")]
    message = next(filter(None, [*messages, _text(error)]), "no reason given")
    code = _text(fields.get("code")) or _text(result.get("error_code"))
    return f"{message} ({code})" if code else message


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
