"""Fork server: the program whose forks are the processes of runs. ``ForkServer`` starts it.

    python -P -m beray.server.runners.subprocess.fork_server_process OPEN_FILES DATA_DIR RUNNER …

OPEN_FILES is its limit of open files, which is lower than the server's. It imports the modules of
these runners, which takes seconds, and then reads requests from standard input, a Unix socket.
Each request is one byte with two descriptors: the run's connection to the server, and a control
socket. The fork supervises a child process that executes the run. It terminates the run when the
server closes its side of the control socket, and writes one frame with the status to that socket
once all processes of the run have ended.

Single-threaded, so that it can fork. POSIX only.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from beray.server.connections import open_files
from beray.server.runners.subprocess import protocol, worker
from beray.server.sandbox.launcher import supervisor
from beray.server.settings import Settings


def main(open_file_limit: int, data_dir: Path, runners: list[str]) -> None:
    """Import the modules of ``runners`` and fork for each request until the requests end."""
    gc.disable()
    open_files.set_limit(open_file_limit)
    supervisor.hide()
    # Ctrl-C in a terminal reaches the server as well, which then ends the runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork becomes a zombie
    settings = Settings(data_dir=data_dir)
    for name in runners:
        worker.preload(name, settings)
    gc.freeze()
    gc.enable()
    requests = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 2)
        if not message:
            return
        if supervisor.fork() == 0:
            requests.close()
            _supervise(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(link: int, control: int) -> NoReturn:
    """Supervise one run and exit when it has ended."""
    status = 127
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job = worker.read_job(link)

        def run() -> None:
            os.close(control)
            worker.run(link, job)

        status, excess = supervisor.supervise(control, run, job["bounds"])
        problem = None if excess is None else excess.problem
        ended = {"status": status, "problem": problem}
        os.write(control, protocol.encode(ended))
    except (OSError, EOFError):
        status = 126  # the server closed the connection
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
