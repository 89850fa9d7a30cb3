"""Process that executes the Python blocks of one page in one namespace.

    python python_session_process.py DESCRIPTOR

It reads one JSON object per line from the socket, with ``code``, ``file``, ``environ`` and
``directory``, and responds with the name of the exception that the code raised, and a traceback.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
import types


def main(descriptor: int) -> None:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # for pickle and typing
    sys.path.insert(0, "")
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rw") as requests:
        for line in requests:
            request = json.loads(line)
            os.environ.clear()
            os.environ.update(request["environ"])
            os.chdir(request["directory"])
            requests.write(json.dumps(execute(module, request["code"], request["file"])) + "\n")
            requests.flush()


def execute(module: types.ModuleType, code: str, file: str) -> dict[str, str]:
    """Return the names of the exception's classes, and its traceback; empty without one."""
    raised, trace = "", ""
    try:
        exec(compile(code, file, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - reported to the test
        raised = " ".join(found.__name__ for found in type(error).__mro__)
        trace = traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return {"raised": raised, "trace": trace}


if __name__ == "__main__":
    main(int(sys.argv[1]))
