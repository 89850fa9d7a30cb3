"""Python session of one page."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("python_session_process.py")
SECONDS = 100.0
"""Time limit of one block."""


class PythonSession:
    """Process with one namespace, which starts with the first block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def execute(
        self, code: str, *, file: str, environ: dict[str, str], directory: str
    ) -> tuple[str, dict[str, str]]:
        """Execute code, and return its output, and the exception's class names and traceback.

        Args:
            code: The code.
            file: File name for tracebacks.
            environ: Environment variables.
            directory: Working directory.
        """
        if self._process is None:
            self._start(environ, directory)
        request = {"code": code, "file": file, "environ": environ, "directory": directory}
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        response = self._requests.readline()
        assert response, f"the Python session ended:\n{self._output_text()}"
        return self._output_text(), json.loads(response)

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._requests.close()
        self._connection.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._output.close()

    def _start(self, environ: dict[str, str], directory: str) -> None:
        self._connection, child = socket.socketpair()
        self._connection.settimeout(SECONDS)
        self._output: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        with child:
            self._process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), str(child.fileno())],
                pass_fds=[child.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output.fileno(),
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=directory,
            )
        self._requests = self._connection.makefile("rw")
        self._read_to = 0

    def _output_text(self) -> str:
        """Return the output since the last call."""
        # The descriptor shares its offset with the process: pread does not move it.
        data = b""
        while piece := os.pread(self._output.fileno(), 65536, self._read_to):
            data += piece
            self._read_to += len(piece)
        return data.decode()
