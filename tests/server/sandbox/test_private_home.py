"""Root server whose data, virtualenv and package are below a directory that only root may enter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import beray
from beray.server.prefabs import archives
from beray.testing import RunningServer
from beray.testing.server import free_port
from tests.server.gateway.prefab_calls import Caller, add, call
from tests.server.gateway.prefab_folders import write_prefab
from tests.server.sandbox.sandbox_harness import RANGE, SandboxHarness, require_root
from tests.support import done, text, until

WHERE = """
import os, sys, pydantic, beray.prefab

def main(call):
    return {"prefix": sys.prefix, "package": beray.__file__, "uid": os.getuid()}
"""


def copied_virtualenv(home: Path) -> Path:
    """Copy this virtualenv with the package installed in it; return its Python."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests do not run in a virtualenv")
    environment = home / "venv"

    def place(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    # Other processes write bytecode to temporary files such as x.pyc.1234, which they rename.
    ignored = shutil.ignore_patterns("_polars_runtime*", "matplotlib", "moto", "*.pyc.*")
    shutil.copytree(sys.prefix, environment, symlinks=True, copy_function=place, ignore=ignored)
    packages = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    for pointer in packages.glob("*beray*.pth"):
        pointer.unlink()
    if not (packages / "beray").exists():
        shutil.copytree(Path(beray.__file__).parent, packages / "beray", ignore=ignored)
    return environment / "bin" / "python"


@pytest.fixture
def server(tmp_path: Path, harness: SandboxHarness) -> Iterator[RunningServer]:
    del harness  # bubblewrap works here
    require_root()
    home = tmp_path / "private"
    home.mkdir(mode=0o700)
    python, port = copied_virtualenv(home), free_port()
    server = RunningServer(home / "data", port, {})
    options = ["--port", str(port), "--data-dir", str(server.data_dir)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "BERAY_PREFAB_AUTHORS": "*"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "beray.server", *options],
            env=environ | {"BERAY_SANDBOX": "bubblewrap"}, cwd="/", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: server.accepts_requests() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(30)


def test_everything_works_below_a_private_home(server: RunningServer, tmp_path: Path) -> None:
    caller = Caller.new(server)
    uid = RANGE.of_user(caller.user_id)
    with caller.account as client:
        events = done(client, "!id -u && echo 1 > file && ls -A")
        assert text(events) == f"{uid}\nfile\n"
        archive = archives.pack(write_prefab(tmp_path / "prefab", WHERE, "[functions.main]"))
        added = add(client, archive)
        assert added.status_code == 201, added.text
        output = caller.result(call("main"))["output"]["output"]
    home = tmp_path / "private"
    assert output["uid"] == uid
    assert output["prefix"] == str(home / "venv")
    assert output["package"].startswith(f"{home}/venv/")
