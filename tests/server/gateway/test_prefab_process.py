"""Calls of functions in their worker process, in both sandboxes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from beray.server.prefabs import process, registry
from beray.server.prefabs.process import FunctionCall
from beray.server.prefabs.protocol import RunFailed
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.ownership import chown_tree
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import WAIT_SECONDS, command_line, sleepers, until

MIB = 1024 * 1024


@pytest.fixture(params=["bubblewrap", "none"])
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    settings = Settings(data_dir=tmp_path / "data", sandbox="auto")
    found = await Sandbox.detect(settings)
    if request.param == "none":
        return Sandbox("none", settings=settings)
    if found.kind != "bubblewrap":
        pytest.skip("bubblewrap does not work here")
    return found


class Bench:
    def __init__(self, sandbox: Sandbox, tmp_path: Path) -> None:
        self.sandbox = sandbox
        self.pieces: list[Any] = []
        self.folder = tmp_path / "prefab"
        self.work = tmp_path / "run-0"

    async def call(self, module: str, toml: str = "", **parameters: Any) -> Any:
        functions = f"[functions.main]\n{toml}\nparameters.additionalProperties = true"
        write_prefab(self.folder, module, functions)
        for name in ("inputs", "outputs"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        if (uid := self.sandbox.uid_of(1)) is not None:
            chown_tree(self.work, uid)
        prefab = registry.load_prefab(self.folder, is_official=False)
        order = FunctionCall(
            prefab, "main", parameters, self.work, {}, 64 * MIB, 0, {"KEY": "s3cret"}
        )
        before = set(psutil.pids())
        try:
            return await process.call_function(self.sandbox, order, self.emit)
        finally:
            gone = [pid for pid in psutil.pids() if pid not in before and _of(pid, self.work)]
            assert not gone

    async def fails(self, module: str, toml: str = "") -> RunFailed:
        with pytest.raises(RunFailed) as raised:
            await self.call(module, toml)
        return raised.value

    async def emit(self, piece: Any) -> None:
        self.pieces.append(piece)


def _of(pid: int, work: Path) -> bool:
    try:
        return str(work) in " ".join(command_line(psutil.Process(pid)))
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def bench(sandbox: Sandbox, tmp_path: Path) -> Bench:
    return Bench(sandbox, tmp_path)


async def test_a_function_gets_its_parameters_and_writes_its_files(bench: Bench) -> None:
    returned = await bench.call(
        """
        def main(call, *, text, times=2):
            print("noise")
            call.output("copy", "copy.txt").write_text(text * times)
            return {"length": len(text) * times, "secret": call.secrets["KEY"]}
        """,
        text="häß",
    )
    assert returned == {"length": 6, "secret": "s3cret"}
    assert (bench.work / "outputs/copy/copy.txt").read_text() == "häßhäß"


async def test_a_generator_gives_pieces_and_its_result(bench: Bench) -> None:
    returned = await bench.call(
        """
        from beray.prefab import Progress
        def main(call):
            yield {"a": 1}
            yield Progress(0.5, "half")
            yield "text"
            return {"done": True}
        """
    )
    assert returned == {"done": True}
    half = {"fraction": 0.5, "message": "half"}
    assert bench.pieces == [("content", {"a": 1}), ("progress", half), ("content", "text")]


async def test_an_error_has_a_traceback_without_the_servers_paths(
    bench: Bench, tmp_path: Path
) -> None:
    failed = await bench.fails(
        """
        import json
        def inner():
            json.loads("{")
        def main(call):
            try:
                inner()
            except ValueError as error:
                raise RuntimeError("it is broken") from error
        """
    )
    assert (failed.code, failed.message) == ("FUNCTION_ERROR", "RuntimeError: it is broken")
    assert 'File "probe.py", line 4, in inner' in failed.traceback
    assert 'File "json/__init__.py"' in failed.traceback
    assert 'json.loads("{")' in failed.traceback
    assert "worker.py" not in failed.traceback
    assert str(tmp_path) not in failed.traceback and "/prefab/" not in failed.traceback


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("import nothing_of_this_name", "FUNCTION_ERROR", "nothing_of_this_name"),
        ("def main(call): return object()", "INVALID_OUTPUT", "JSON"),
        ("def main(call): return float('nan')", "INVALID_OUTPUT", "JSON"),
        ("def main(call): return '\\ud800'", "INVALID_OUTPUT", "surrogate"),
        ("def main(call):\n  a = []\n  for _ in range(99): a = [a]\n  return a", "INVALID_OUTPUT", "deep"),
        ("def main(call): return 'a' * 20_000_000", "OUTPUT_TOO_LARGE", "bytes of JSON"),
        ("def main(call):\n  while True: yield 'a' * 1_000_000", "OUTPUT_TOO_LARGE", "bytes of JSON"),
        ("from beray.prefab import Progress\ndef main(call): yield Progress(7)", "INVALID_OUTPUT", "0 to 1"),
        ("import os\ndef main(call): os._exit(3)", "CRASHED", "exit status 3"),
        ("import os\ndef main(call): os.kill(os.getpid(), 11)", "CRASHED", "signal 11"),
        ("import os\ndef main(call):\n  os.write(2, b'\\n[ended: more than 1 bytes of memory]\\n')\n  os._exit(137)",
         "CRASHED", "signal 9"),
        ("import sys\ndef main(call): sys.exit(0)", "FUNCTION_ERROR", "SystemExit"),
        ("import os\ndef main(call): os.closerange(3, 99); os._exit(0)", "CRASHED", "exit status 0"),
        ("import os\ndef main(call):\n  for n in range(3, 99):\n    try: os.write(n, b'garbage!' * 9)\n    except OSError: pass\n  return {}", "", ""),
        ("def main(call): raise MemoryError", "MEMORY_LIMIT", "memory"),
        ("class E(Exception):\n  def __str__(self): raise E\ndef main(call): raise E", "FUNCTION_ERROR", "cannot be read"),
    ],
)  # fmt: skip
async def test_failures_have_error_codes(bench: Bench, body: str, code: str, said: str) -> None:
    failed = await bench.fails(body)
    assert not code or failed.code == code
    assert said in failed.message


async def test_a_function_that_ends_by_no_signal_is_ended_in_time(bench: Bench) -> None:
    failed = await bench.fails(
        """
        import os, signal, subprocess, time
        def main(call):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            subprocess.Popen(["sleep", "98761"], start_new_session=True)
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execvp("sleep", ["sleep", "98761"])
                os._exit(0)
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    pass
        """,
        "seconds = 1.5",
    )
    assert failed.code == "TIMEOUT"
    until(lambda: not sleepers("98761"))


async def test_memory_is_bounded(bench: Bench) -> None:
    failed = await bench.fails(
        """
        def main(call):
            held = []
            while True:
                held.append(bytearray(8 * 1024 * 1024))
        """,
        "memory_bytes = 67108864",
    )
    assert failed.code == "MEMORY_LIMIT"


async def test_a_fork_bomb_is_ended(bench: Bench) -> None:
    failed = await bench.fails(
        """
        import os, time
        def main(call):
            for _ in range(200):
                if os.fork() == 0:
                    time.sleep(98762)
            time.sleep(98762)
        """
    )
    assert failed.code == "CRASHED"
    assert "processes" in failed.message


async def test_a_flood_of_prints_costs_nothing(bench: Bench) -> None:
    returned = await bench.call(
        """
        import sys
        def main(call):
            for _ in range(2000):
                print("x" * 10_000)
                sys.stderr.write("y" * 10_000)
            return {"done": True}
        """
    )
    assert returned == {"done": True}


async def test_nothing_of_the_server_is_there(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERAY_PROBE_KEY", "a-secret-of-the-server")
    outside = tmp_path / "outside.txt"
    outside.write_text("outside")
    returned = await bench.call(
        """
        import os, socket, sys
        def readable(path):
            try:
                return open(path).read()
            except OSError:
                return None
        def writable(path):
            try:
                open(path, "a").close()
                return True
            except OSError:
                return False
        def main(call, *, outside, port):
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                connected = True
            except OSError:
                connected = False
            parent = {}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                parent[pid] = "a-secret-of-the-server" in str(readable(f"/proc/{pid}/environ"))
            return {
                "environ": dict(os.environ), "outside": readable(outside), "network": connected,
                "own": writable(__file__), "parents": any(parent.values()), "argv": sys.argv[1:],
                "beray": writable(sys.modules["beray.prefab"].__file__),
            }
        """,
        outside=str(outside),
        port=await _listening(),
    )
    assert "BERAY_PROBE_KEY" not in returned["environ"]
    assert outside.read_text() == "outside"
    if bench.sandbox.kind == "bubblewrap":
        assert (returned["outside"], returned["network"], returned["own"]) == (None, False, False)
        assert (returned["parents"], returned["beray"]) == (False, False)


async def test_a_cancelled_call_ends_all_processes(bench: Bench) -> None:
    started = asyncio.Event()

    async def emit(piece: Any) -> None:
        started.set()

    bench.emit = emit  # type: ignore[method-assign]
    calling = asyncio.create_task(
        bench.call(
            """
            import subprocess
            def main(call):
                child = subprocess.Popen(["sleep", "98763"], start_new_session=True)
                yield 1
                child.wait()
            """
        )
    )
    await asyncio.wait_for(started.wait(), WAIT_SECONDS)
    until(lambda: sleepers("98763"))
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert not sleepers("98763")


async def _listening() -> int:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


def test_the_worker_is_a_separate_program() -> None:
    assert os.path.isfile(process.worker_command()[2])


def test_places_of_the_server_are_cut_out_whole(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    place = tmp_path / "link" / "run"
    said = f"{real}/run/a.txt {place}/b.txt {place} {place}-beside/c {sys.prefix}/lib/d.py"
    failed = process.strip_server_paths(RunFailed("FUNCTION_ERROR", said, said), place)
    assert failed.message == f"a.txt b.txt . {place}-beside/c lib/d.py"
    assert failed.traceback == failed.message
