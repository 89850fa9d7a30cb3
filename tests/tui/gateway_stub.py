"""A gateway without a server: fixed prefabs, and runs that go as a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from beray.config import Profiles, Target
from beray.gateway import PrefabNotFoundError
from tests.tui import dashboard_stub as stub
from tui.app import BeRayApp
from tui.state.user_state import UserState

URL = "s3://beray/agent-outputs/1/-/job-1"


def event(kind: str, data: Any = None) -> SimpleNamespace:
    return SimpleNamespace(type=kind, data=data)


def done(output: Any, files: dict[str, list[str]] | None = None) -> SimpleNamespace:
    outer = {"status": "SUCCESS", "output": output, "files": files or {}}
    return event("done", {"job_id": "job-1", "status": "SUCCESS", "output": outer})


class StubRun(Iterator[Any]):
    """Gives its events, then waits until it is closed where it does not end by itself."""

    def __init__(self, events: list[Any]) -> None:
        self._events = iter(events)
        self.closed = threading.Event()

    def __next__(self) -> Any:
        for item in self._events:
            return stub.answered(item)
        self.closed.wait()
        raise StopIteration

    def close(self) -> None:
        self.closed.set()


class StubGateway:
    """What a test puts into it is answered; an exception put there is raised."""

    def __init__(self) -> None:
        self.prefabs: Any = []
        self.specs: dict[str, Any] = {}
        self.events: Any = []
        self.content: Any = b""
        self.refused: dict[str, Exception] = {}
        """By file name: what an upload raises."""
        self.uploaded: list[Path] = []
        self.calls: list[tuple[Any, ...]] = []
        self.runs: list[StubRun] = []
        self.blocked: threading.Event | None = None
        self.closed = False
        self.secrets: list[tuple[str, str, str]] = []
        self.secret_answer: Any = None

    def close(self) -> None:
        self.closed = True

    def list_prefabs(self, status: str | None = None) -> Any:
        if self.blocked is not None:
            self.blocked.wait()
        return stub.answered(self.prefabs)

    def get_prefab_spec(self, prefab_id: str, version: str | None = None) -> Any:
        nothing = PrefabNotFoundError(prefab_id, version)
        found = self.specs.get(f"{prefab_id}@{version}", self.specs.get(prefab_id, nothing))
        return stub.answered(found)

    def set_prefab_secret(self, prefab_id: str, name: str, value: str) -> None:
        stub.answered(self.secret_answer)
        self.secrets.append((prefab_id, name, value))

    def upload_input_file(self, path: Path, *, transfer: Any = None) -> str:
        if path.name in self.refused:
            raise self.refused[path.name]
        size = path.stat().st_size
        transfer.advance(size, size)
        self.uploaded.append(path)
        return f"s3://beray/agent-inputs/1/{len(self.uploaded)}/{path.name}"

    def run(self, *call: Any, files: Any = None, stream: bool = False) -> StubRun:
        self.calls.append((*call, files))
        assert stream
        run = StubRun(stub.answered(self.events))
        self.runs.append(run)
        return run

    def download_file(
        self, s3_url: str, local_path: Path, *, overwrite: bool = False, transfer: Any = None
    ) -> None:
        content = stub.answered(self.content)
        if local_path.exists() and not overwrite:
            raise FileExistsError(17, "it exists", str(local_path))
        transfer.advance(0, len(content))
        local_path.write_bytes(content)


def info(prefab_id: str, **more: Any) -> SimpleNamespace:
    told = {
        "version": "1.0.0",
        "name": prefab_id,
        "description": "",
        "status": "deployed",
        "is_official": False,
        "requires_secrets": False,
        "functions": [],
    }
    return SimpleNamespace(prefab_id=prefab_id, **{**told, **more})


def spec_of(prefab_id: str, *functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {"id": prefab_id, "version": "1.0.0", "name": prefab_id, "description": ""}
    return {**told, "status": "deployed", "versions": ["1.0.0"], "functions": [*functions], **more}


def function_of(name: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties or {},
        "required": more.pop("required", []),
        "additionalProperties": False,
    }
    files = {"inputs": more.pop("inputs", {}), "outputs": more.pop("outputs", {})}
    told = {"name": name, "description": "", "streaming": False, "returns": None, "secrets": []}
    return {**told, "parameters": parameters, "files": files, **more}


TABLE = spec_of(
    "table",
    function_of(
        "convert",
        {
            "format": {
                "type": "string",
                "enum": ["csv", "parquet", "xlsx"],
                "description": "What the table becomes.",
            },
            "columns": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The columns to keep, in this order; all of them where it is empty.",
            },
            "rows": {
                "type": "integer",
                "minimum": 1,
                "maximum": 1000000,
                "default": 1000,
                "description": "How many rows are read at most.",
            },
            "header": {"type": "boolean", "default": True, "description": "The first row names."},
        },
        required=["format"],
        description="Converts a table from one format into another.",
        streaming=True,
        inputs={
            "table": {
                "description": "CSV, Parquet or Excel.",
                "required": True,
                "many": False,
                "types": [".csv", ".parquet", ".xlsx"],
            }
        },
        outputs={"table": {"description": "The table in its new format.", "many": False}},
        returns={
            "type": "object",
            "properties": {"rows": {"type": "integer", "description": "How many there are."}},
        },
        seconds=120,
        memory_bytes=1024**3,
    ),
    function_of("summarise", description="Says what is in a table, column by column."),
    name="Table tool",
    description="Reads, converts, filters and summarises tables.",
    version="1.2.0",
    versions=["1.2.0", "1.1.0"],
)
PREFABS = [
    info(
        "image",
        name="Image tool",
        is_official=True,
        functions=["resize", "contact_sheet"],
        description="Converts, resizes and arranges images.",
    ),
    info(
        "table",
        name="Table tool",
        version="1.2.0",
        is_official=True,
        functions=["convert", "summarise"],
        description="Reads, converts, filters and summarises tables.",
    ),
    info("weather", name="把天气", requires_secrets=True, functions=["forecast"]),
    info("old", status="disabled"),
]
EVENTS = [
    event("start", {"job_id": "job-1"}),
    event("progress", {"fraction": 0.25, "message": "reading sales.csv"}),
    event("content", "1,000 rows with 4 columns\n"),
    event("content", {"column": "shop", "type": "text", "different": 12}),
    event("progress", {"fraction": 0.62, "message": "writing sales.parquet"}),
    event("content", "writing row group 1 of 2\n"),
]
DONE = done({"rows": 1000, "columns": ["shop", "day"]}, {"table": [f"{URL}/table/sales.parquet"]})


def full_gateway() -> StubGateway:
    gateway = StubGateway()
    gateway.prefabs, gateway.specs = PREFABS, {"table": TABLE}
    gateway.specs["image"] = spec_of("image", function_of("resize"), name="Image tool")
    gateway.events = [*EVENTS, DONE]
    return gateway


def prefab_app(
    gateway: StubGateway, folder: Path, client: stub.StubClient | None = None
) -> BeRayApp:
    """The dashboard of an account whose gateway is ``gateway``."""
    return BeRayApp(
        Target("https://beray.example", "work", "token", "ada@example.org"),
        Profiles(folder / "profiles.json"),
        connect=lambda _: client or stub.full_client(),  # type: ignore[arg-type,return-value]
        clock=lambda: stub.NOW,
        user_state=UserState(folder / "dashboard"),
        gateway=lambda _: gateway,
    )
