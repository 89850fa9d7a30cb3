"""Networks of tasks: the effect of ``limits.network``, and its rejection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.exceptions import UnprocessableEntityError
from beray.server.sandbox import network_policy
from beray.server.sandbox.sandbox import NetworkUnavailable, Sandbox
from beray.server.settings import Settings
from beray.server.workspace.ownership import set_owner
from beray.testing import RunningServer
from tests.network_support import needs_bubblewrap, needs_own_network, without_slirp4netns
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import model_server
from tests.shared_servers import ServerPool
from tests.support import descendants, sleepers, text, until

INTERFACES = "cut -d: -f1 /proc/net/dev | tail -n +3 | xargs"


def interfaces(client: BeRayClient, *, network: bool | None = None) -> list[str]:
    """Return the network interfaces that a ``!`` goal sees."""
    limits: Any = None if network is None else {"network": network}
    task = client.create_task(f"!{INTERFACES}", limits=limits)
    return text(list(client.stream_task_updates(task["id"]))).split()


@contextmanager
def signed_up(data_dir: Path, **environ: str) -> Iterator[BeRayClient]:
    with RunningServer.start(data_dir, environ) as server, server.sign_up() as client:
        yield client


@needs_own_network
@pytest.mark.parametrize(
    ("policy", "network", "expected"),
    [
        ("task", None, ["lo"]),
        ("task", False, ["lo"]),
        ("task", True, ["lo", "tap0"]),
        ("always", None, ["lo", "tap0"]),
        ("never", None, ["lo"]),
    ],
)
def test_a_shell_goal_has_the_requested_network(
    server_pool: ServerPool, policy: str, network: bool | None, expected: list[str]
) -> None:
    with server_pool.server(BERAY_SANDBOX_NETWORK=policy).sign_up() as client:
        assert interfaces(client, network=network) == expected


@pytest.mark.parametrize("goal", ["!true", "say hello"])
def test_a_network_that_the_policy_forbids_is_rejected(server_pool: ServerPool, goal: str) -> None:
    with server_pool.server(BERAY_SANDBOX_NETWORK="never").sign_up() as client:
        with pytest.raises(UnprocessableEntityError, match="BERAY_SANDBOX_NETWORK=never"):
            client.create_task(goal, limits={"network": True})
        assert client.list_tasks() == []


@needs_own_network
def test_a_held_task_fails_if_the_policy_has_changed(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task = client.create_task("!true", start=False, limits={"network": True})
        server.restart(BERAY_SANDBOX_NETWORK="never")
        client.start_task(task["id"])
        events = list(client.stream_task_updates(task["id"]))
    assert "BERAY_SANDBOX_NETWORK=never" in str(events)
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "network")


@needs_bubblewrap
def test_without_slirp4netns_a_shared_server_rejects_tasks(tmp_path: Path) -> None:
    with (
        without_slirp4netns(tmp_path) as path,
        signed_up(
            tmp_path / "data", PATH=path, BERAY_PUBLIC_URL="https://b.example",
            BERAY_COMMAND="cat",
        ) as client,
    ):  # fmt: skip
        assert interfaces(client) == ["lo"]
        with pytest.raises(UnprocessableEntityError, match="apt install slirp4netns"):
            client.create_task("!true", limits={"network": True})
        with pytest.raises(UnprocessableEntityError, match="apt install slirp4netns"):
            client.create_task("an agent needs its model")


@needs_bubblewrap
def test_without_slirp4netns_a_personal_server_warns(tmp_path: Path) -> None:
    with (
        without_slirp4netns(tmp_path) as path,
        RunningServer.start(tmp_path / "data", PATH=path) as server,
        server.sign_up() as client,
    ):
        assert "apt install slirp4netns" in server.log.read_text()
        assert interfaces(client) == ["lo"]
        task = client.create_task("!true", limits={"network": True})
        events: list[Any] = list(client.stream_task_updates(task["id"]))
        warnings = [event for event in events if event.get("payload", {}).get("kind") == "warning"]
        assert len(warnings) == 1
        assert "apt install slirp4netns" in warnings[0]["payload"]["message"]


@needs_own_network
def test_the_commands_of_a_model_reach_listed_services(
    beray_server: RunningServer, tmp_path: Path
) -> None:
    address = beray_server.url.removeprefix("http://")
    with (
        model_server(tmp_path / "data", BERAY_NETWORK_ALLOW=address) as models,
        models.server.sign_up() as client,
    ):
        code = (
            f"from urllib.request import urlopen; print(urlopen('http://{address}/healthz').status)"
        )
        call = Reply(calls=[Call("run_command", {"command": f'/usr/bin/python3 -c "{code}"'})])
        events = models.done(client, "ask", call, Reply(text=["done"]), limits={"network": True})
        results = [event for event in events if event["type"] == "AGENT_EVENT_TOOL_RESULT"]
        assert [event["result"] for event in results] == [{"exit_code": 0}]


@pytest.mark.parametrize(
    ("sandboxed", "shared", "mode"),
    [
        (True, True, "unavailable"),
        (True, False, "host"),
        (False, True, "host"),
        (False, False, "host"),
    ],
)
def test_the_state_contains_the_next_step(
    monkeypatch: pytest.MonkeyPatch, sandboxed: bool, shared: bool, mode: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    state = network_policy.find_state(sandboxed=sandboxed, shared=shared)
    assert state.mode == mode
    assert state.needs_attention
    assert ("apt install slirp4netns" in str(state)) is sandboxed


def test_a_tun_device_that_cannot_be_opened_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_policy, "program", lambda: "/usr/bin/slirp4netns")
    device = tmp_path / "tun"
    device.touch()
    monkeypatch.setattr(network_policy, "_TUN", device)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != device)
    state = network_policy.find_state(sandboxed=True, shared=True)
    assert state.mode == "unavailable"
    assert f"chmod 0666 {device}" in state.reason


@needs_own_network
async def test_a_command_is_not_started_without_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await Sandbox.detect(Settings(data_dir=tmp_path / "data"))
    broken = tmp_path / "slirp4netns"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(network_policy, "program", lambda: str(broken))
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    set_owner(work_dir, sandbox.uid_of(None))
    command = ["/bin/sh", "-c", "echo started"]
    async with sandbox.process(command, work_dir, network=True) as process:
        assert process.stdout is not None
        output = (await process.stdout.read()).decode()
        assert await process.wait() == 125
    assert "not started: slirp4netns does not work: out of luck" in output
    assert "\nstarted" not in output


@needs_own_network
@pytest.mark.parametrize(
    ("agents", "policy", "requested", "has"),
    [("true", "never", False, True), ("false", "task", False, False), ("false", "task", True, True)],
)  # fmt: skip
def test_a_command_agent_has_the_network_of_agents_or_of_its_task(
    tmp_path: Path, agents: str, policy: str, requested: bool, has: bool
) -> None:
    environ = {
        "BERAY_COMMAND": "cat /proc/net/dev",
        "BERAY_AGENT_NETWORK": agents,
        "BERAY_SANDBOX_NETWORK": policy,
    }
    with signed_up(tmp_path / "data", **environ) as client:
        task = client.create_task("list the interfaces", limits={"network": requested})
        events = list(client.stream_task_updates(task["id"]))
    assert ("tap0" in text(events)) is has


@needs_bubblewrap
def test_a_prefab_without_its_network_is_not_started(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", sandbox_network="never")
    sandbox = Sandbox("bubblewrap", settings=settings)

    async def call() -> None:
        async with sandbox.function(["/bin/true"], tmp_path, [], {}, network=True):
            pass

    with pytest.raises(NetworkUnavailable, match="BERAY_SANDBOX_NETWORK=never"):
        asyncio.run(call())


@needs_own_network
async def test_a_start_that_hangs_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await Sandbox.detect(Settings(data_dir=tmp_path / "data"))
    hanging = tmp_path / "slirp4netns"
    hanging.write_text("#!/bin/sh\nexec sleep 983\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(network_policy, "program", lambda: str(hanging))
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    set_owner(work_dir, sandbox.uid_of(None))

    before = set(descendants())

    async def start() -> None:
        async with sandbox.process(["/bin/true"], work_dir, network=True) as process:
            await process.wait()

    starting = asyncio.create_task(start())
    await asyncio.to_thread(until, lambda: sleepers("983"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert sleepers("983") == []
    assert set(descendants()) <= before
