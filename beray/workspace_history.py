"""Requests for the history of the work_dirs of tasks. BeRay extension."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beray import history_schema
from beray.checkpoint_positions import checked_position
from beray.exceptions import InvalidArgument
from beray.history_schema import Checkpoint, Diff, RestoreResult
from beray.http.transport import Transport, quote_path_segment
from beray.transfers.wire_names import to_wire_name


class TaskHistory:
    """Requests for checkpoints, which ``BeRayClient`` composes to its methods.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def checkpoints(self, task_id: int | str) -> list[Checkpoint]:
        """Return all checkpoints of a task, oldest first."""
        path = _history_path(task_id, "checkpoints")
        pages = self._transport.pages(history_schema.CHECKPOINTS, path)
        return [checkpoint for page in pages for checkpoint in page]

    def diff(
        self,
        task_id: int | str,
        from_: int | str | None,
        to: int | str | None,
        paths: Iterable[str],
    ) -> Diff:
        """Return the differences between two checkpoints; see ``BeRayClient.diff``."""
        params = _diff_params(from_, to, paths)
        return self._transport.json(
            history_schema.DIFF, "GET", _history_path(task_id, "diff"), params=params
        )

    def diff_text(
        self,
        task_id: int | str,
        from_: int | str | None,
        to: int | str | None,
        paths: Iterable[str],
    ) -> bytes:
        """Return the differences as a patch; see ``BeRayClient.diff_text``."""
        params = _diff_params(from_, to, paths) | {"format": "unified"}
        url_path = _history_path(task_id, "diff")
        return self._transport.request("GET", url_path, params=params).content

    def restore(
        self, task_id: int | str, to: int | str, paths: Iterable[str], *, dry_run: bool
    ) -> RestoreResult:
        """Restore a checkpoint; see ``BeRayClient.restore``."""
        body: dict[str, Any] = {"to": checked_position("to", to)}
        if wire_paths := _wire_paths(paths):
            body["paths"] = wire_paths
        if dry_run:
            body["dry_run"] = True
        # A repeated restore could undo uploads that were made after the first one.
        return self._transport.json(
            history_schema.RESTORE_RESULT,
            "POST",
            _history_path(task_id, "restore"),
            json=body,
            idempotent=dry_run,
        )


def _history_path(task_id: int | str, resource: str) -> str:
    return f"/tasks/{quote_path_segment(task_id)}/{resource}"


def _diff_params(
    from_: int | str | None, to: int | str | None, paths: Iterable[str]
) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, argument, position in (("from", "from_", from_), ("to", "to", to)):
        if position is not None:
            params[name] = checked_position(argument, position)
    if wire_paths := _wire_paths(paths):
        params["path"] = wire_paths
    return params


def _wire_paths(paths: Iterable[str]) -> list[str]:
    if isinstance(paths, (str, bytes)):
        raise InvalidArgument(f"paths must be a list of paths, got {paths!r}")
    return [to_wire_name(path) for path in paths]
