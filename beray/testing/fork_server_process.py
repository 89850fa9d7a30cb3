"""Process that test servers are forked from; started by ``ServerForker``.

It reads requests from standard input and writes responses to standard output, each as one line of
JSON:

- ``{"arguments": […], "environ": {…}, "log": PATH, "cwd": PATH, "cheap_passwords": BOOL}`` starts a
  server like ``python -m beray.server``; the response is its pid.
- ``{"ended": PID}`` requests the exit status of a server; the response is the status, or ``null``
  while the server runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from typing import Final

from beray.testing import standby

_IMPORTED_AT_START: Final = (
    "anyio._backends._asyncio",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""Modules that libraries import dynamically when a server starts."""


def _run() -> None:
    """Process the requests; return at the end of the input, and in a fork when its server ends.

    Servers that still run at the end of the input receive SIGTERM.
    """
    gc.disable()
    for name in ("beray.server.lifecycle", *_IMPORTED_AT_START):
        importlib.import_module(name)
    gc.freeze()
    # Ctrl-C is handled by the parent process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    preloaded: list[dict[str, str]] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            response = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        else:
            runners = standby.configured_runners(request["environ"])
            if runners and runners not in preloaded:
                standby.preload(request["environ"])
                gc.freeze()
                preloaded.append(runners)
            response = os.fork()
            if response == 0:
                _run_server(**request)
                return
            running.add(response)
        print(json.dumps(response), flush=True)  # noqa: T201 - standard output carries responses
    for pid in running:
        os.kill(pid, signal.SIGTERM)


def _run_server(
    arguments: list[str], environ: dict[str, str], log: str, cwd: str, cheap_passwords: bool
) -> None:
    """Run a server in this fork, with the state of a newly started process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, flags, streams in (
        (os.devnull, os.O_RDONLY, [0]),
        (log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, [1, 2]),
    ):
        opened = os.open(path, flags, 0o666)
        for stream in streams:
            os.dup2(opened, stream)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments
    gc.enable()
    if cheap_passwords:
        argon2 = importlib.import_module("argon2")
        hashing = importlib.import_module("beray.server.accounts.password_hashing")
        vars(hashing)["hasher"] = argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST)
    if standby.configured_runners(environ):
        standby.install()
    runpy.run_module("beray.server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
