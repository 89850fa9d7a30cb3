"""Checks the folder of a prefab where its author works: no server, no sandbox."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from beray.server.http.validation_errors import InputProblem
from beray.server.prefabs import archives, module_check, process, protocol, registry
from beray.server.prefabs.manifest import ManifestError
from beray.server.prefabs.registry import Installed

IMPORT_SECONDS: Final = 60.0
_LENGTH: Final = struct.Struct("!I")


def checked(folder: Path) -> Installed:
    """The prefab in ``folder``, whose module has been imported, in a process of its own.

    Raises:
        ManifestError: something does not fit; all that can be told at once is.
        OSError: the folder cannot be read.
    """
    prefab = registry.inspected(folder.absolute(), is_official=False)
    archives.packed(folder)
    job = protocol.packed(process.inspection(prefab, str(folder.absolute())))
    with tempfile.TemporaryFile() as errors:
        try:
            ended = subprocess.run(
                process.command(),
                input=job, stdout=subprocess.PIPE, stderr=errors, timeout=IMPORT_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            why = f"its import takes longer than {IMPORT_SECONDS:g} s"
            raise ManifestError([InputProblem((prefab.module_file,), why)]) from None
    told = json.loads(ended.stdout[_LENGTH.size :]) if len(ended.stdout) > _LENGTH.size else {}
    if "inspected" not in told:
        failed = told.get("failed", {"message": f"its import ends with {ended.returncode}"})
        why = "\n".join(filter(None, (failed["message"], failed.get("traceback", "").rstrip())))
        raise ManifestError([InputProblem((prefab.module_file,), why)])
    problems = module_check.problems(prefab, told["inspected"])
    if problems:
        raise ManifestError(problems)
    return prefab
