"""The prefabs of the server as tools: their files come out of the work_dir and go into it."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic_ai import Tool
from pydantic_ai.exceptions import ToolFailed

from beray.events import MsgEventCustomUpdate
from beray.gateway import (
    GatewayClient,
    GatewayError,
    PrefabStream,
    StreamEventType,
)
from beray.server.runners.base import Job, Sink
from beray.server.runners.model.file_tools import FileTools, Refused
from beray.server.runners.model.names import free_name
from beray.server.settings import Settings
from beray.server.workspace.safe_open import PathError
from beray.transfers.local_names import on_disk

MOST_TOOLS: Final = 100
CHARACTERS: Final = 100_000
"""Most that the model is given of one answer."""
OUTPUTS: Final = "outputs"
"""Where output files go, in the work_dir."""
_DESCRIPTION_CHARACTERS: Final = 1_000
_TRACE_CHARACTERS: Final = 2_000

log = structlog.get_logger("beray.model")


async def prefab_tools(
    settings: Settings, job: Job, sink: Sink, files: FileTools, taken: Sequence[str]
) -> list[Tool[None]]:
    """A tool for each function of the prefabs that the owner wants to be tools.

    None where the gateway is not to be had.

    Args:
        taken: names that they must not have.
    """
    if job.gateway is None:
        return []
    client = GatewayClient(job.gateway.token, job.gateway.url)
    try:
        specs = await asyncio.to_thread(_specs, client, settings)
    except GatewayError as error:
        log.warning("a run has no prefabs", problem=str(error))
        return []
    names = set(taken)
    tools = [
        _Function(client, spec, function, job, sink, files).as_tool(names)
        for spec in specs
        for function in spec["functions"]
    ]
    return tools[:MOST_TOOLS]


def _specs(client: GatewayClient, settings: Settings) -> list[dict[str, Any]]:
    found = client.list_prefabs(status="deployed")
    return [
        client.get_prefab_spec(one.prefab_id, one.version)
        for one in found
        if settings.is_tool(one.prefab_id)
    ]


class _Function:
    """One function, as a tool."""

    def __init__(
        self,
        client: GatewayClient,
        spec: Mapping[str, Any],
        function: Mapping[str, Any],
        job: Job,
        sink: Sink,
        files: FileTools,
    ) -> None:
        self._client = client
        self._prefab = str(spec["id"]), str(spec["version"])
        self._title = str(spec["name"])
        self._function = function
        self._sink = sink
        self._files = files
        properties = function["parameters"].get("properties", {})
        self._inputs = _named(function["files"]["inputs"], properties)

    def as_tool(self, names: set[str]) -> Tool[None]:
        async def call(**arguments: Any) -> str:
            return await self._call(arguments)

        wanted = f"prefab_{self._prefab[0]}_{self._function['name']}"
        return Tool.from_schema(
            call,
            name=free_name(wanted, names),
            description=self._description(),
            json_schema=self._schema(),
        )

    def _description(self) -> str:
        said = f"{self._title}: {self._function['description'] or self._function['name']}"
        outputs = self._function["files"]["outputs"]
        made = "; ".join(f"{key}: {one['description']}" for key, one in outputs.items())
        if made:
            said += f" Files that it makes go into {OUTPUTS}/ of the workspace ({made})."
        return said[:_DESCRIPTION_CHARACTERS]

    def _schema(self) -> dict[str, Any]:
        schema = copy.deepcopy(dict(self._function["parameters"]))
        properties, required = schema.setdefault("properties", {}), schema.get("required", [])
        for name, (_, one) in self._inputs.items():
            types = f" ({', '.join(one['types'])})" if one["types"] else ""
            path = {"type": "string"}
            several = {"type": "array", "items": path, "minItems": int(bool(one["required"]))}
            said = f"{one['description']} A path in the workspace{types}.".strip()
            properties[name] = (several if one["many"] else path) | {"description": said}
            if one["required"]:
                required = [*required, name]
        return schema | {"required": required}

    async def _call(self, arguments: dict[str, Any]) -> str:
        paths = {
            key: _paths(name, given)
            for name, (key, _) in self._inputs.items()
            # Models say null for what they leave out.
            if (given := arguments.pop(name, None)) is not None
        }
        stream: list[PrefabStream] = []
        said: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(message: str | None) -> None:
            loop.call_soon_threadsafe(said.put_nowait, message)

        def work() -> dict[str, Any]:
            try:
                return self._worked(arguments, paths, stream, tell)
            finally:
                tell(None)

        working = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while (message := await said.get()) is not None:
                payload = {"kind": "progress", "message": message}
                await self._sink.emit(MsgEventCustomUpdate(payload=payload))
            result = await working
        except GatewayError as error:
            raise ToolFailed(str(error)[:CHARACTERS]) from None
        finally:
            # Closed, the gateway ends the call.
            for one in stream:
                one.close()
        text = json.dumps(result, ensure_ascii=False)
        if len(text) > CHARACTERS:
            text = f"{text[:CHARACTERS]}\n[cut off here: {len(text):,} characters in all]"
        return text

    # In a thread

    def _worked(
        self,
        arguments: dict[str, Any],
        paths: Mapping[str, Sequence[str]],
        stream: list[PrefabStream],
        tell: Any,
    ) -> dict[str, Any]:
        session = f"call-{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory(prefix="beray-prefab-") as folder:
            try:
                urls = {
                    key: [self._uploaded(path, Path(folder), session) for path in several]
                    for key, several in paths.items()
                }
                events = self._client.run(
                    *self._prefab, self._function["name"], arguments, urls or None, stream=True
                )
                stream.append(events)
                content, output = _followed(events, tell)
            finally:
                self._forget(session)
            files = output.get("files") or {}
            made: dict[str, list[str]] = {}
            told = {"result": output.get("output"), "files": made}
            try:
                for key, several in files.items():
                    for url in several:
                        path = self._taken(url, Path(folder))
                        made.setdefault(key, []).append(path)
            except PathError as error:
                # What was done is told all the same.
                told["problem"] = f"not all files could be put into {OUTPUTS}/: {error.reason}"
        return told | ({"content": content} if content else {})

    def _uploaded(self, path: str, folder: Path, session: str) -> str:
        with self._files.open() as workspace:
            file, _ = workspace.open_file(path)
            copied = folder / uuid.uuid4().hex / on_disk(os.path.basename(path))
            copied.parent.mkdir()
            with file, copied.open("xb") as target:
                shutil.copyfileobj(file, target)
        url = self._client.upload_temp_file(copied, session_id=session)
        copied.unlink()
        return url

    def _forget(self, session: str) -> None:
        try:
            self._client.cleanup_temp_files(session)
        except GatewayError as error:
            # They go by themselves when their time is over.
            log.warning("input files of a call are left for a while", problem=str(error))

    def _taken(self, url: str, folder: Path) -> str:
        """Move an output file into the work_dir, over nothing that is there; its path."""
        copied = folder / uuid.uuid4().hex
        self._client.download_file(url, copied)
        with copied.open("rb") as file:
            path = self._files.add(f"{OUTPUTS}/{url.rpartition('/')[2]}", file)
        copied.unlink()
        try:
            self._client.delete_file(url)
        except GatewayError as error:
            log.warning("an output file of a call is kept twice", problem=str(error))
        return path


def _named(
    inputs: Mapping[str, Any], properties: Mapping[str, Any]
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The input files by what a model calls them; parameters have their names already."""
    taken = {*inputs, *properties}
    return {
        free_name(f"{key}_file", taken) if key in properties else key: (key, one)
        for key, one in inputs.items()
    }


def _paths(name: str, given: object) -> list[str]:
    several = given if isinstance(given, list) else [given]
    paths = [path for path in several if isinstance(path, str)]
    if len(paths) < len(several):
        raise Refused(f"{name}: give a path, or a list of paths")
    return paths


def _followed(events: PrefabStream, tell: Any) -> tuple[list[Any], dict[str, Any]]:
    """The pieces of a call, and its output.

    Raises:
        ToolFailed: it failed.
        GatewayError: it could not begin, or broke off.
    """
    content: list[Any] = []
    for event in events:
        if event.type == StreamEventType.CONTENT:
            content.append(event.data)
        elif event.type == StreamEventType.PROGRESS and event.data.get("message"):
            tell(str(event.data["message"]))
    result = events.result
    if result is None:
        raise ToolFailed("the call broke off")
    if not result.is_success():
        error = result.error
        trace = str(error.get("traceback", ""))[-_TRACE_CHARACTERS:]
        raise ToolFailed(f"{error['code']}: {error['message']}\n{trace}".rstrip())
    return content, result.output or {}
