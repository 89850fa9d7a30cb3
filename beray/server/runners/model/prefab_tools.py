"""Model tools for the server's prefabs, with input and output files in the work_dir."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
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
from beray.server.runners.model.file_tools import FileTools, ToolError
from beray.server.runners.model.toolset import unique_tool_name
from beray.server.settings import Settings
from beray.server.workspace.safe_open import PathError
from beray.transfers.local_names import on_disk

MAX_TOOLS: Final = 100
CHARACTERS: Final = 100_000
"""Maximum length of one result for the model."""
OUTPUTS: Final = "outputs"
"""Directory of output files in the work_dir."""
_DESCRIPTION_CHARACTERS: Final = 1_000
_TRACE_CHARACTERS: Final = 2_000

log = structlog.get_logger("beray.model")


async def prefab_tools(
    settings: Settings, job: Job, sink: Sink, files: FileTools, reserved_names: Sequence[str]
) -> list[Tool[None]]:
    """Return a tool for each function of the prefabs that the operator has enabled as tools.

    Args:
        settings: Settings of the server, with the enabled prefabs.
        job: Job with the access to the gateway.
        sink: Destination of progress events.
        files: Tools that save output files.
        reserved_names: Names that are in use by other tools.

    Returns:
        The tools; an empty list without access to the gateway, or if the gateway fails.
    """
    if job.gateway is None:
        return []
    client = GatewayClient(job.gateway.token, job.gateway.url)
    try:
        specs = await asyncio.to_thread(_specs, client, settings)
    except GatewayError as error:
        log.warning("a run has no prefab tools", problem=str(error))
        return []
    names = set(reserved_names)
    tools = [
        _PrefabFunction(
            client=client, spec=spec, function=function, job=job, sink=sink, files=files
        ).as_tool(names)
        for spec in specs
        for function in spec["functions"]
    ]
    return tools[:MAX_TOOLS]


def _specs(client: GatewayClient, settings: Settings) -> list[dict[str, Any]]:
    deployed = client.list_prefabs(status="deployed")
    return [
        client.get_prefab_spec(prefab.prefab_id, prefab.version)
        for prefab in deployed
        if settings.is_tool(prefab.prefab_id)
    ]


class _PrefabFunction:
    """Function of a prefab that can be called by the model."""

    def __init__(
        self,
        *,
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
        self._inputs = input_parameters(function["files"]["inputs"], properties)

    def as_tool(self, names: set[str]) -> Tool[None]:
        """Return the tool and add its name to ``names``."""

        async def call(**arguments: Any) -> str:
            return await self._call(arguments)

        name = f"prefab_{self._prefab[0]}_{self._function['name']}"
        return Tool.from_schema(
            call,
            name=unique_tool_name(name, names),
            description=self._description(),
            json_schema=self._schema(),
        )

    def _description(self) -> str:
        description = f"{self._title}: {self._function['description'] or self._function['name']}"
        outputs = self._function["files"]["outputs"]
        files = "; ".join(f"{key}: {output['description']}" for key, output in outputs.items())
        if files:
            description += f" Its output files are saved in {OUTPUTS}/ of the workspace ({files})."
        return description[:_DESCRIPTION_CHARACTERS]

    def _schema(self) -> dict[str, Any]:
        schema = copy.deepcopy(dict(self._function["parameters"]))
        properties, required = schema.setdefault("properties", {}), schema.get("required", [])
        for name, (_, file) in self._inputs.items():
            types = f" ({', '.join(file['types'])})" if file["types"] else ""
            path = {"type": "string"}
            paths = {"type": "array", "items": path, "minItems": int(bool(file["required"]))}
            description = f"{file['description']} A path in the workspace{types}.".strip()
            properties[name] = (paths if file["many"] else path) | {"description": description}
            if file["required"]:
                required = [*required, name]
        return schema | {"required": required}

    async def _call(self, arguments: dict[str, Any]) -> str:
        paths = {
            key: _paths(name, value)
            for name, (key, _) in self._inputs.items()
            # Models send null for omitted arguments.
            if (value := arguments.pop(name, None)) is not None
        }
        streams: list[PrefabStream] = []
        messages: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(message: str | None) -> None:
            loop.call_soon_threadsafe(messages.put_nowait, message)

        def work() -> dict[str, Any]:
            try:
                return self._run(arguments, paths, streams, report)
            finally:
                report(None)

        working = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while (message := await messages.get()) is not None:
                payload = {"kind": "progress", "message": message}
                await self._sink.emit(MsgEventCustomUpdate(payload=payload))
            result = await working
        except GatewayError as error:
            raise ToolFailed(str(error)[:CHARACTERS]) from None
        finally:
            # The gateway cancels the call if its stream is closed.
            for stream in streams:
                stream.close()
        text = json.dumps(result, ensure_ascii=False)
        if len(text) > CHARACTERS:
            text = f"{text[:CHARACTERS]}\n[cut off here: {len(text):,} characters in all]"
        return text

    # The following methods block and run in a thread.

    def _run(
        self,
        arguments: dict[str, Any],
        paths: Mapping[str, Sequence[str]],
        streams: list[PrefabStream],
        report: Callable[[str | None], None],
    ) -> dict[str, Any]:
        """Upload the input files, call the function and save its output files.

        Args:
            arguments: Arguments of the function.
            paths: Paths of input files in the work_dir by the prefab's names of the inputs.
            streams: List to which the stream of the call is added.
            report: Called with each progress message.
        """
        session = f"call-{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory(prefix="beray-prefab-") as scratch:
            try:
                urls = {
                    key: [self._upload(path, Path(scratch), session) for path in input_paths]
                    for key, input_paths in paths.items()
                }
                stream = self._client.run(
                    *self._prefab, self._function["name"], arguments, urls or None, stream=True
                )
                streams.append(stream)
                content, output = _read_stream(stream, report)
            finally:
                self._delete_inputs(session)
            saved: dict[str, list[str]] = {}
            result = {"result": output.get("output"), "files": saved}
            try:
                for key, output_urls in (output.get("files") or {}).items():
                    for url in output_urls:
                        path = self._save_output(url, Path(scratch))
                        saved.setdefault(key, []).append(path)
            except PathError as error:
                # The call has succeeded, so its result is returned nevertheless.
                result["problem"] = f"not all files could be saved in {OUTPUTS}/: {error.reason}"
        return result | ({"content": content} if content else {})

    def _upload(self, path: str, scratch: Path, session: str) -> str:
        """Upload a file of the work_dir as a temporary file and return its URL."""
        with self._files.open() as workspace:
            file, _ = workspace.open_file(path)
            copied = scratch / uuid.uuid4().hex / on_disk(path.rpartition("/")[2])
            copied.parent.mkdir()
            with file, copied.open("xb") as target:
                shutil.copyfileobj(file, target)
        url = self._client.upload_temp_file(copied, session_id=session)
        copied.unlink()
        return url

    def _delete_inputs(self, session: str) -> None:
        try:
            self._client.cleanup_temp_files(session)
        except GatewayError as error:
            # The server deletes temporary files when they expire.
            log.warning("input files of a call were not deleted", problem=str(error))

    def _save_output(self, url: str, scratch: Path) -> str:
        """Move an output file into the work_dir under an unused name; return its path."""
        copied = scratch / uuid.uuid4().hex
        self._client.download_file(url, copied)
        with copied.open("rb") as file:
            path = self._files.add(f"{OUTPUTS}/{url.rpartition('/')[2]}", file)
        copied.unlink()
        try:
            self._client.delete_file(url)
        except GatewayError as error:
            log.warning("an output file was copied but not deleted", problem=str(error))
        return path


def input_parameters(
    inputs: Mapping[str, Any], properties: Mapping[str, Any]
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the input files with their keys by the name of the tool's parameter.

    The name is the key, or another one if a parameter of the function has that name.
    """
    names = {*inputs, *properties}
    return {
        unique_tool_name(f"{key}_file", names) if key in properties else key: (key, file)
        for key, file in inputs.items()
    }


def _paths(name: str, value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    paths = [path for path in items if isinstance(path, str)]
    if len(paths) < len(items):
        raise ToolError(f"{name}: give a path, or a list of paths")
    return paths


def _read_stream(
    events: PrefabStream, report: Callable[[str | None], None]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the content events and the output of a call.

    Raises:
        ToolFailed: The function failed, or the stream ended early.
        GatewayError: The call could not be started, or the connection was lost.
    """
    content: list[Any] = []
    for event in events:
        if event.type == StreamEventType.CONTENT:
            content.append(event.data)
        elif event.type == StreamEventType.PROGRESS and event.data.get("message"):
            report(str(event.data["message"]))
    result = events.result
    if result is None:
        raise ToolFailed("the call was interrupted before its result")
    if not result.is_success():
        error = result.error
        trace = str(error.get("traceback", ""))[-_TRACE_CHARACTERS:]
        raise ToolFailed(f"{error['code']}: {error['message']}\n{trace}".rstrip())
    return content, result.output or {}
