"""MCP servers that are programs of the operator or of users."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from beray.server.runners.base import Outcome
from beray.server.runners.mcp import operators
from beray.server.runners.mcp.operators import McpServersFileError
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_bench import Bench, Step, other_tasks, processes
from tests.server.agents.model_server import model_server
from tests.server.agents.tiny_mcp_server import SOURCE

PYTHON = shutil.which("python3", path="/usr/bin:/bin")
TINY: dict[str, Any] = {"command": PYTHON, "args": ["-c", SOURCE]}
needs_python = pytest.mark.skipif(PYTHON is None, reason="no Python in /usr/bin for the sandbox")


def calls(*commands: str) -> list[Step]:
    return [*([("x_sh", {"command": command})] for command in commands), "done"]


async def bench(tmp_path: Path, *commands: str, **settings: Any) -> Bench:
    """Return an environment with bubblewrap; skip the test if that does not work."""
    made = await Bench.make(tmp_path, *calls(*commands), mcp_stdio=True, **settings)
    if settings.get("sandbox") is None and made.sandbox.kind != "bubblewrap":
        pytest.skip("bubblewrap does not work here")
    return made


@needs_python
async def test_a_users_program_runs_in_the_sandbox_of_the_task(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    work = await bench(tmp_path, f"cat {secret}", "pwd; ls", "id -u; echo $HOME $X; ls /home")
    (work.work_dir / "file.txt").write_text("x")
    program = {**TINY, "env": {"X": "1 2;`id`"}}
    assert await work.run(tools=[{"x": program}]) == Outcome("COMPLETED")
    first, second, third = work.answers()
    assert "of the host" not in first
    assert second == "/workspace\nfile.txt"
    assert "1 2;`id`" in third
    assert not processes()
    assert not other_tasks()


@needs_python
async def test_a_users_variables_reach_only_the_program(
    tmp_path: Path,
) -> None:
    work = await bench(tmp_path, "echo $LD_PRELOAD $PATH; env")
    library = work.work_dir / "evil.so"
    library.write_bytes(b"")
    evil = {"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin", "A": "a\nb"}
    assert await work.run(tools=[{"x": {**TINY, "env": evil}}]) == Outcome("COMPLETED")
    [answer] = work.answers()
    # If the path does not exist in the sandbox, the dynamic loader prints a warning.
    assert f"{library} /usr/bin:/bin" in answer
    assert "A=a\nb" in answer
    assert "BERAY_VARIABLE" not in answer


@needs_python
@pytest.mark.parametrize(
    ("shared", "requested", "policy", "reaches"),
    [
        (False, False, "task", True),
        (False, True, "never", False),
        (True, False, "task", False),
        (True, True, "task", True),
    ],
)
async def test_a_users_program_has_the_tasks_network(
    tmp_path: Path, shared: bool, requested: bool, policy: str, reaches: bool
) -> None:
    if not {name for _, name in socket.if_nameindex()} - {"lo"}:
        pytest.skip("this host has no network")
    work = await bench(tmp_path, "cat /proc/net/dev", sandbox_network=policy)
    if shared:
        work.settings.set_listener("192.0.2.1", embedded=False)
    await work.run(tools=[{"x": TINY}], network=requested)
    [answer] = work.answers()
    seen = {line.split(":")[0].strip() for line in answer.splitlines() if ":" in line} - {"lo"}
    assert bool(seen) is reaches


@needs_python
async def test_a_shared_server_without_sandbox_rejects_users_programs(tmp_path: Path) -> None:
    work = await bench(tmp_path, sandbox="none")
    work.settings.set_listener("192.0.2.1", embedded=False)
    before = processes()
    await work.run(tools=[{"x": TINY}])
    [payload] = work.sink.payloads("mcp")
    assert "no sandbox" in payload["message"]
    assert processes() == before


@needs_python
async def test_a_personal_server_without_sandbox_runs_users_programs(tmp_path: Path) -> None:
    work = await bench(tmp_path, "pwd", sandbox="none")
    await work.run(tools=[{"x": TINY}])
    assert work.answers() == [str(work.work_dir)]


async def test_a_named_program_runs_outside_in_an_empty_directory(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    file.write_text(
        "[tiny]\n"
        f"command = {json.dumps(sys.executable)}\n"
        f"args = ['-c', {json.dumps(SOURCE)}]\n"
        "env = { VALUE = 'of-the-operator' }\n"
    )
    shown = tmp_path / "outside"
    shown.write_text("seen")
    work = await Bench.make(
        tmp_path, *calls(f"cat {shown}; echo; ls -A; echo $VALUE"), mcp_servers=file
    )
    (work.work_dir / "file.txt").write_text("x")
    assert await work.run(tools=[{"x": {"server": "tiny"}}]) == Outcome("COMPLETED")
    assert work.answers()[0].split() == ["seen", "of-the-operator"]


async def test_an_unknown_name_is_reported_with_the_known_names(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text(json.dumps({"a": {"command": "a"}, "b": {"command": "b"}}))
    work = await Bench.make(tmp_path, "done", mcp_servers=file)
    await work.run(tools=[{"x": {"server": "c"}}])
    [payload] = work.sink.payloads("mcp")
    assert payload["message"] == (
        "this server has no MCP server named 'c'; it has a, b (BERAY_MCP_SERVERS)"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting"),
        ("[]", "expects an object, got an array"),
        ('{"a": {}}', "a.command: is required"),
        ('{"a": {"command": 5}}', "a.command: expects a string, got a number"),
        ('{"a": {"command": "-x"}}', "a.command"),
        ('{"a": {"command": "x", "args": "y"}}', "a.args"),
        ('{"a": {"command": "x", "env": {"A": 1}}}', "a.env.A"),
        ('{"a": {"command": "x", "env": {"A=B": "1"}}}', "a.env"),
        ('{"a": {"command": "x", "url": "http://x"}}', "a.url"),
        ('{"": {"command": "x"}}', "at least 1 character"),
    ],
)
def test_an_invalid_file_of_programs_names_the_entry(
    tmp_path: Path, content: str, problem: str
) -> None:
    file = tmp_path / "servers.json"
    file.write_text(content)
    with pytest.raises(McpServersFileError) as caught:
        operators.load(file)
    assert problem in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_world_writable_file_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text('{"a": {"command": "x"}}')
    file.chmod(0o646)
    with pytest.raises(McpServersFileError, match="every user of this host"):
        operators.load(file)
    file.chmod(0o640)
    assert operators.load(file)["a"].command == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text('{"a": {"command": "x"}}')
    os.chown(file, 12345, -1)
    with pytest.raises(McpServersFileError, match="belongs to user id 12345"):
        operators.load(file)


def test_a_missing_file_of_programs_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(McpServersFileError, match="No such file"):
        operators.load(tmp_path / "servers.json")
    assert operators.load(None) == {}


def test_the_outer_key_of_other_programs_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text('{"mcpServers": {"a": {"command": "x", "args": ["y"], "env": {"A": "b"}}}}')
    assert operators.load(file)["a"].args == ("y",)


def test_a_named_program_of_a_real_server_is_called_and_its_credentials_stay_secret(
    tmp_path: Path,
) -> None:
    file = tmp_path / "servers.json"
    env = {"API_TOKEN": "of-the-operator-123"}
    file.write_text(
        json.dumps({"tiny": {"command": sys.executable, "args": ["-c", SOURCE], "env": env}})
    )
    with (
        model_server(tmp_path / "data", BERAY_MCP_SERVERS=str(file)) as models,
        models.server.sign_up() as client,
    ):
        events = models.done(
            client,
            "hello",
            Reply(calls=[Call("x_sh", {"command": "echo seen $API_TOKEN"})]),
            Reply(text=["done"]),
            tools=[{"x": {"server": "tiny"}}],
        )
    assert events[-1]["status"] == "COMPLETED"
    assert "seen [secret]" in repr(events)
    assert "of-the-operator" not in repr(events)
