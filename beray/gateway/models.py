"""Calls of prefabs, their results, and events of streamed runs.

The names of this module are published.

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

from beray.gateway.schema import CallResponse, PrefabEntry, RunResponse


class CallStatus(StrEnum):
    """Status of a call."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class StreamEventType(StrEnum):
    """Type of an event of a streamed run."""

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
_TYPES = {str(event_type): event_type for event_type in StreamEventType}


def _job_id(value: str | int | None) -> str | None:
    """Return the ID of a job as a string; other gateways may send numbers."""
    return None if value is None else str(value)


@dataclass
class PrefabCall:
    """One call of a function of a prefab.

    Attributes:
        prefab_id: ID of the prefab.
        version: Version of the prefab, or ``latest``.
        function_name: Name of the function.
        parameters: Arguments of the function; they must be valid JSON.
        files: Input files: for each key, a list of ``s3://`` URLs.
    """

    prefab_id: str
    version: str
    function_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Sequence[str]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the request; ``files`` is omitted if empty."""
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
        """Return the call that a dictionary describes.

        Args:
            call: A dictionary as returned by ``to_dict``. ``parameters`` and ``files`` may also be
                keys of this dictionary instead of ``inputs``.

        Raises:
            ValueError: ``prefab_id``, ``version`` or ``function_name`` is missing.
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
            raise ValueError(f"the dictionary of the call has no key {error}") from None


@dataclass
class PrefabResult:
    """Outcome of one call.

    Attributes:
        status: Status of the call; an unknown status is kept as a string.
        output: Output of the call with both levels; None if the call failed.
        error: Reason of a failure: ``code``, ``message`` and, if available, ``traceback``.
        job_id: ID of the run that the call was part of.
    """

    status: CallStatus | str
    output: dict[str, Any] | None = None
    error: Any = None
    job_id: str | None = None

    @classmethod
    def from_response(cls, response: CallResponse, job_id: str | int | None) -> Self:
        """Return the result of a call.

        Args:
            response: Part of the response that is about this call.
            job_id: ID of the run, for a response that does not repeat it in each call.
        """
        return cls(
            status=_STATUSES.get(response["status"], response["status"]),
            output=response.get("output"),
            error=response.get("error"),
            job_id=_job_id(response.get("job_id")) or _job_id(job_id),
        )

    def is_success(self) -> bool:
        """Return True if the call succeeded."""
        return self.status == CallStatus.SUCCESS

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of ``output``, or ``default`` if it is missing."""
        return (self.output or {}).get(key, default)

    def get_result(self) -> dict[str, Any] | None:
        """Return ``output``, with both levels."""
        return self.output

    def get_function_result(self) -> Any:
        """Return the value that the function returned; ``{}`` instead of None."""
        result = self.get("output")
        return {} if result is None else result

    def get_files(self) -> dict[str, list[str]]:
        """Return the ``s3://`` URLs of the files that the function wrote, by key."""
        files = self.get("files")
        if not isinstance(files, dict):
            return {}
        # A gateway may send the URL of a single file without a list around it.
        lists = {key: [urls] if isinstance(urls, str) else urls for key, urls in files.items()}
        return {
            key: [url for url in urls if isinstance(url, str)]
            for key, urls in lists.items()
            if isinstance(urls, list)
        }

    def get_file_urls(self, key: str | None = None) -> list[str]:
        """Return the URLs of ``key``, or of all keys, as one list."""
        files = self.get_files()
        lists = list(files.values()) if key is None else [files.get(key, [])]
        return [url for urls in lists for url in urls]

    def get_business_success(self) -> bool:
        """Return ``success`` of the function's value as a bool; False if it is missing."""
        return bool(self._business_value("success"))

    def get_business_message(self) -> str:
        """Return ``message`` of the function's value; "" if it is missing.

        A value that is not a string is returned as JSON.
        """
        return self._business_text("message") or ""

    def get_business_error(self) -> str | None:
        """Return ``error`` of the function's value, or None if it is missing or empty.

        A value that is not a string is returned as JSON.
        """
        return self._business_text("error")

    def get_business_error_code(self) -> str | None:
        """Return ``error_code`` of the function's value, or None if it is missing or empty.

        A value that is not a string is returned as JSON.
        """
        return self._business_text("error_code")

    def _business_text(self, key: str) -> str | None:
        value = self._business_value(key)
        if isinstance(value, str):
            return value
        # false, 0 and empty values mean "none"; their JSON would be a non-empty string.
        return json.dumps(value, ensure_ascii=False, default=str) if value else None

    def _business_value(self, key: str) -> Any:
        result = self.get_function_result()
        return result.get(key) if isinstance(result, dict) else None


@dataclass
class BatchResult:
    """Outcome of a batch of calls.

    Attributes:
        job_id: ID of the run.
        status: Status of the run; if the gateway sends none, ``SUCCESS`` if all calls succeeded.
        results: Results in the order of the calls.
    """

    job_id: str | None
    status: str
    results: list[PrefabResult]

    @classmethod
    def from_response(cls, response: RunResponse) -> Self:
        """Return the results of a run."""
        job_id = _job_id(response.get("job_id"))
        results = [PrefabResult.from_response(call, job_id) for call in response["results"]]
        succeeded = all(result.is_success() for result in results)
        fallback = CallStatus.SUCCESS if succeeded else CallStatus.FAILED
        return cls(job_id, response.get("status") or fallback, results)

    @classmethod
    def from_result(cls, result: PrefabResult) -> Self:
        """Return the outcome of a batch of one call."""
        return cls(result.job_id, result.status, [result])

    def all_success(self) -> bool:
        """Return True if all calls succeeded."""
        return all(result.is_success() for result in self.results)

    def get_failed(self) -> list[PrefabResult]:
        """Return the results of the calls that did not succeed, in the order of the calls."""
        return [result for result in self.results if not result.is_success()]


@dataclass
class StreamEvent:
    """Event of a streamed run.

    Attributes:
        type: Type of the event; an unknown type is kept as a string.
        data: Content of the event, which depends on its type.
    """

    type: StreamEventType | str
    data: Any = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the event that a dictionary describes; without ``type`` it is a content event."""
        event_type = data.get("type") or StreamEventType.CONTENT
        return cls(_TYPES.get(event_type, event_type), data.get("data"))


@dataclass
class PrefabInfo:
    """Newest version of a prefab, as in a listing.

    Attributes:
        prefab_id: ID of the prefab.
        version: Newest version.
        name: Display name.
        description: Description of the prefab.
        status: ``deployed``, or ``disabled`` if the prefab cannot be run.
        is_official: Whether the gateway marks the prefab as official.
        requires_secrets: Whether the caller has to set secrets before calling the prefab.
        functions: Names of the functions.
        extra: Further fields of the gateway's response.
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
    def from_entry(cls, entry: PrefabEntry) -> Self:
        """Return the prefab of a listing's entry; null fields get their default values."""
        names = cls.__dataclass_fields__.keys() - {"extra"}
        known: dict[str, Any] = {
            name: value for name, value in entry.items() if name in names and value is not None
        }
        extra = {name: value for name, value in entry.items() if name not in names}
        return cls(**known, extra=extra)
