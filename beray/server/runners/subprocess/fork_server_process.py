"""The process that runs are forked from. A program of its own; ``Forks`` speaks to it.

    python -P -m beray.server.runners.subprocess.fork_server_process OPEN_FILES DATA_DIR RUNNER …

OPEN_FILES is its limit of open files, which is lower than the server's. It imports what these
runners need, which takes long, and then waits on standard input, a Unix socket. Each message
there is one byte with two descriptors: the run's connection to the server, and a socket whose end
says that the run has to end. The fork that is made supervises a child that does the run, and
writes to the second socket, as JSON, how that ended once all of it is gone.

Single-threaded, so that it can fork. POSIX only.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from beray.server.connections import open_files
from beray.server.runners.subprocess import worker
from beray.server.sandbox.launcher import supervisor
from beray.server.settings import Settings


def main(open_file_limit: int, data_dir: Path, runners: list[str]) -> None:
    gc.disable()
    open_files.set_limit(open_file_limit)
    supervisor.hide()
    # A terminal's Ctrl-C is for the server, which then ends the runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    settings = Settings(data_dir=data_dir)
    for name in runners:
        worker.prepare(name, settings)
    gc.freeze()
    gc.enable()
    requests = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 2)
        if not message:
            return
        if supervisor.fork() == 0:
            requests.close()
            _stand_between(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _stand_between(link: int, control: int) -> NoReturn:
    """Be the supervisor of one run, and end with it."""
    status = 127
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        given = worker.begin(link)

        def run() -> None:
            os.close(control)
            worker.run(link, given)

        status, problem = supervisor.supervise(control, run, given["bounds"])
        os.write(control, json.dumps({"status": status, "problem": problem}).encode())
    except (OSError, EOFError):
        status = 126  # the server has gone
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
