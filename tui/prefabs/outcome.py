"""What came of a run, in the words of the wire, as it is shown.

Source: the wire page of the gateway, ``POST /v1/internal/run``; docs/wire.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

_MOST_FILES: Final = 1000


@dataclass(frozen=True)
class OutputFile:
    """A file that a run has made."""

    key: str
    url: str

    @property
    def name(self) -> str:
        """Its name, which is from outside."""
        return unquote(self.url.rpartition("/")[2]) or self.url


@dataclass(frozen=True)
class Problem:
    """Why there is no result."""

    code: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Outcome:
    """A run that has ended.

    Attributes:
        result: what the function returned.
        files: what it made, in the order of its keys.
        problem: why it failed; ``None`` where it did not.
        refusal: what the function itself says is wrong, in its result: it ran, and
            could not do what was asked.
    """

    result: Any = None
    files: tuple[OutputFile, ...] = ()
    problem: Problem | None = None
    refusal: str = ""


def of_done(data: object) -> Outcome:
    """The outcome that the ``done`` event of a stream tells."""
    told = data if isinstance(data, Mapping) else {}
    outer = told.get("output")
    if not isinstance(outer, Mapping):
        return Outcome(outer)
    result = outer.get("output")
    return Outcome(result, tuple(_files(outer.get("files"))), refusal=_refusal(result))


def of_error(data: object) -> Outcome:
    """The outcome that the ``error`` event of a stream tells."""
    told = data if isinstance(data, Mapping) else {"message": data}
    code, message = _text(told.get("code")), _text(told.get("message"))
    traceback = _text(told.get("traceback"))
    return Outcome(problem=Problem(code or "FAILED", message or "It failed.", traceback))


def _files(told: object) -> Iterator[OutputFile]:
    left = _MOST_FILES
    for key, urls in told.items() if isinstance(told, Mapping) else ():
        for url in urls if isinstance(urls, list) else ():
            if isinstance(key, str) and isinstance(url, str) and left:
                left -= 1
                yield OutputFile(key, url)


def _refusal(result: object) -> str:
    """What a result with ``"success": false`` says, as prefabs by custom do."""
    if not isinstance(result, Mapping) or result.get("success") is not False:
        return ""
    error = result.get("error")
    told = error if isinstance(error, Mapping) else result
    said = [_text(told.get(word)) for word in ("message", "error")]
    message = next(filter(None, [*said, _text(error)]), "it did not succeed")
    code = _text(told.get("code")) or _text(result.get("error_code"))
    return f"{message} ({code})" if code else message


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
