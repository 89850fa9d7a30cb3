"""Calls of prefabs, their results, and events of streamed runs. The names are published.

A successful output has two levels: ``output["output"]`` is the value that the function
returned, ``output["files"]`` the files that it wrote. The methods of :class:`PrefabResult`
hide this.

Source: the Gateway wire page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from beray.gateway.schema import CallAnswer, PrefabEntry, RunAnswer


class CallStatus(StrEnum):
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class StreamEventType(StrEnum):
    START = "start"
    CONTENT = "content"
    PROGRESS = "progress"
    DONE = "done"
    ERROR = "error"


__all__ = [
    "BatchResult",
    "CallStatus",
    "PrefabCall",
    "PrefabInfo",
    "PrefabResult",
    "StreamEvent",
    "StreamEventType",
]

_STATUSES = {str(status): status for status in CallStatus}
_TYPES = {str(kind): kind for kind in StreamEventType}


def _job_id(value: str | int | None) -> str | None:
    """Return the id of a job as a string: other gateways may have numbers."""
    return None if value is None else str(value)


@dataclass
class PrefabCall:
    """One call: of a function of a version of a prefab.

    Args:
        parameters: what JSON can say.
        files: for each key, a list of ``s3://`` URLs.
    """

    prefab_id: str
    version: str
    function_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Sequence[str]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the call as it is sent; ``files`` is left out if there are none."""
        inputs: dict[str, Any] = {"parameters": self.parameters}
        if self.files:
            inputs["files"] = self.files
        return {
            "prefab_id": self.prefab_id,
            "version": self.version,
            "function_name": self.function_name,
            "inputs": inputs,
        }

    @classmethod
    def from_dict(cls, call: Mapping[str, Any]) -> Self:
        """Return the call of a dictionary as ``to_dict`` makes it.

        ``parameters`` and ``files`` may also be beside ``prefab_id``, as in the constructor.

        Raises:
            ValueError: A key is missing.
        """
        inputs = call.get("inputs") or call
        try:
            return cls(
                call["prefab_id"],
                call["version"],
                call["function_name"],
                inputs.get("parameters") or {},
                inputs.get("files"),
            )
        except KeyError as error:
            raise ValueError(f"the call has no {error}") from None


@dataclass
class PrefabResult:
    """What has become of one call.

    Attributes:
        status: a status that is not known here stays the text that came.
        output: both levels; ``None`` where the call failed.
        error: why it failed: ``code``, ``message`` and maybe ``traceback``.
        job_id: of the run it was part of.
    """

    status: CallStatus | str
    output: dict[str, Any] | None = None
    error: Any = None
    job_id: str | None = None

    @classmethod
    def of(cls, answer: CallAnswer, job_id: str | int | None) -> Self:
        return cls(
            status=_STATUSES.get(answer["status"], answer["status"]),
            output=answer.get("output"),
            error=answer.get("error"),
            job_id=_job_id(answer.get("job_id")) or _job_id(job_id),
        )

    def is_success(self) -> bool:
        return self.status == CallStatus.SUCCESS

    def get(self, key: str, default: Any = None) -> Any:
        """A key of ``output``."""
        return (self.output or {}).get(key, default)

    def get_result(self) -> dict[str, Any] | None:
        """The whole ``output``, both levels."""
        return self.output

    def get_function_result(self) -> Any:
        """What the function returned; ``{}`` where it returned nothing."""
        result = self.get("output")
        return {} if result is None else result

    def get_files(self) -> dict[str, list[str]]:
        """The ``s3://`` URLs of what the function wrote, by key."""
        files = self.get("files")
        if not isinstance(files, dict):
            return {}
        # A gateway may say the URL of a single file as it is.
        lists = {key: [urls] if isinstance(urls, str) else urls for key, urls in files.items()}
        return {
            key: [url for url in urls if isinstance(url, str)]
            for key, urls in lists.items()
            if isinstance(urls, list)
        }

    def get_file_urls(self, key: str | None = None) -> list[str]:
        """The URLs of ``key``, or of all keys, in one list."""
        files = self.get_files()
        lists = list(files.values()) if key is None else [files.get(key, [])]
        return [url for urls in lists for url in urls]

    def get_business_success(self) -> bool:
        """The function's own ``success``; ``False`` where it says none."""
        return bool(self._said("success"))

    def get_business_message(self) -> str:
        """The function's own ``message``; "" where it says none, JSON where it is no text."""
        return self._text("message") or ""

    def get_business_error(self) -> str | None:
        """The function's own ``error``, where it says one; JSON where it is no text."""
        return self._text("error")

    def get_business_error_code(self) -> str | None:
        """The function's own ``error_code``, where it says one; JSON where it is no text."""
        return self._text("error_code")

    def _text(self, key: str) -> str | None:
        said = self._said(key)
        if isinstance(said, str):
            return said
        # ``false``, 0 and what is empty say that there is none, and their JSON would say more.
        return json.dumps(said, ensure_ascii=False, default=str) if said else None

    def _said(self, key: str) -> Any:
        result = self.get_function_result()
        return result.get(key) if isinstance(result, dict) else None


@dataclass
class BatchResult:
    """What has become of a batch; ``results`` in the order of its calls."""

    job_id: str | None
    status: str
    results: list[PrefabResult]

    @classmethod
    def of(cls, answer: RunAnswer) -> Self:
        job_id = _job_id(answer.get("job_id"))
        results = [PrefabResult.of(each, job_id) for each in answer["results"]]
        succeeded = all(result.is_success() for result in results)
        fallback = CallStatus.SUCCESS if succeeded else CallStatus.FAILED
        return cls(job_id, answer.get("status") or fallback, results)

    @classmethod
    def alone(cls, result: PrefabResult) -> Self:
        """A batch of one call."""
        return cls(result.job_id, result.status, [result])

    def all_success(self) -> bool:
        return all(result.is_success() for result in self.results)

    def get_failed(self) -> list[PrefabResult]:
        """The results that are no success, in the order of their calls."""
        return [result for result in self.results if not result.is_success()]


@dataclass
class StreamEvent:
    """One event of a streamed run. A type that is not known here stays the text that came."""

    type: StreamEventType | str
    data: Any = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the event of a dictionary; without a ``type`` it is a piece of content."""
        kind = data.get("type") or StreamEventType.CONTENT
        return cls(_TYPES.get(kind, kind), data.get("data"))


@dataclass
class PrefabInfo:
    """A prefab as it is listed: its newest version.

    Attributes:
        status: ``deployed``, or ``disabled``: it is not run.
        requires_secrets: whether it needs a secret of the caller's.
        functions: their names.
        extra: what the gateway says besides.
    """

    prefab_id: str
    version: str = ""
    name: str = ""
    description: str = ""
    status: str = ""
    is_official: bool = False
    requires_secrets: bool = False
    functions: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: PrefabEntry) -> Self:
        names = cls.__dataclass_fields__.keys() - {"extra"}
        known: dict[str, Any] = {
            name: value for name, value in entry.items() if name in names and value is not None
        }
        extra = {name: value for name, value in entry.items() if name not in names}
        return cls(**known, extra=extra)
