"""The process that servers are forked from. A program of its own; ``Forks`` speaks to it.

Requests come on standard input and are answered on standard output, each one line of
JSON. To start: ``{"arguments": […], "environ": {…}, "log": PATH, "cwd": PATH,
"cheap_passwords": BOOL}``, answered with the pid of a fork that runs ``beray.server`` as
``python -m`` does. To ask whether it has ended: ``{"ended": PID}``, answered with its
exit status or ``null``.
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

_IMPORTED_BY_A_START: Final = (
    "anyio._backends._asyncio",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""Libraries do so with these once they are asked for."""


def _run() -> None:
    """Answer the requests; returns at their end, and in each fork at the server's.

    Servers that are left at the end of the requests are ended as SIGTERM does.
    """
    gc.disable()
    for name in ("beray.server.lifecycle", *_IMPORTED_BY_A_START):
        importlib.import_module(name)
    gc.freeze()
    # Whoever made this process decides what an interrupt ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        else:
            answer = os.fork()
            if answer == 0:
                _become(**request)
                return
            running.add(answer)
        print(json.dumps(answer), flush=True)  # noqa: T201 - standard output is the answer's way
    for pid in running:
        os.kill(pid, signal.SIGTERM)


def _become(
    arguments: list[str], environ: dict[str, str], log: str, cwd: str, cheap_passwords: bool
) -> None:
    """Be, in a fork, as a process that was started with these."""
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
        cheapest = argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST)
        vars(importlib.import_module("beray.server.accounts.password_hashing"))["_hasher"] = (
            cheapest
        )
    runpy.run_module("beray.server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
