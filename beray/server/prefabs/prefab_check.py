"""Checks of a prefab: its directory, and the functions of its module against the manifest."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from beray.server.http.validation_errors import InputLocation, InputProblem
from beray.server.prefabs import archives, process, protocol, registry
from beray.server.prefabs.json_schema import Schema
from beray.server.prefabs.manifest import FunctionSpec, ManifestError
from beray.server.prefabs.registry import InstalledPrefab
from beray.server.sandbox.launcher import framing

IMPORT_SECONDS: Final = 60.0


def check_prefab(directory: Path) -> InstalledPrefab:
    """Check a prefab on its author's machine, without a server or a sandbox.

    The module is imported in a separate process with the rights of the caller.

    Raises:
        ManifestError: The prefab has problems; the exception lists all that were found.
        OSError: The directory cannot be read.
    """
    prefab = registry.load_prefab(directory.absolute(), is_official=False)
    archives.pack(directory)
    request = protocol.encode_frame(process.inspection_request(prefab, str(directory.absolute())))
    with tempfile.TemporaryFile() as errors:
        try:
            ended = subprocess.run(
                process.worker_command(),
                input=request, stdout=subprocess.PIPE, stderr=errors, timeout=IMPORT_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            reason = f"the import takes longer than {IMPORT_SECONDS:g} seconds"
            raise ManifestError([InputProblem((prefab.module_file,), reason)]) from None
    reply = json.loads(framing.decode(ended.stdout) or "{}")
    if "inspected" not in reply:
        exited = {"message": f"the import ended the process with status {ended.returncode}"}
        failed = reply.get("failed", exited)
        lines = (failed["message"], failed.get("traceback", "").rstrip())
        reason = "\n".join(filter(None, lines))
        raise ManifestError([InputProblem((prefab.module_file,), reason)])
    problems = module_problems(prefab, reply["inspected"])
    if problems:
        raise ManifestError(problems)
    return prefab


def module_problems(prefab: InstalledPrefab, found: dict[str, Any]) -> list[InputProblem]:
    """Return all differences between a prefab's module and its manifest.

    Args:
        prefab: Prefab with the manifest.
        found: Description of the module by the worker process; not trusted.
    """
    missing = found.get("missing")
    if isinstance(missing, list) and missing:
        names = ", ".join(map(str, missing))
        return [InputProblem(("prefab", "requires"), f"not installed: {names}")]
    functions = found.get("functions")
    problems: list[InputProblem] = []
    for name, function in prefab.manifest.functions.items():
        signature = functions.get(name) if isinstance(functions, dict) else None
        place = ("functions", name)
        problems += _function_problems(place, function, signature, prefab.module_file)
    return problems


def _function_problems(
    place: InputLocation, function: FunctionSpec, signature: object, module: str
) -> list[InputProblem]:
    if not isinstance(signature, dict):
        return [InputProblem(place, f"{module} has no such function")]
    if signature.get("is_async"):
        reason = "the function is async; define it with a plain def (it may be a generator)"
        return [InputProblem(place, reason)]
    problems: list[InputProblem] = []
    if not signature.get("takes_call"):
        problems.append(InputProblem(place, "the function must take a Call as its first argument"))
    is_generator = bool(signature.get("is_generator"))
    if is_generator is not function.streaming:
        kind = "a generator" if is_generator else "not a generator"
        wanted = "true" if is_generator else "false"
        problems.append(
            InputProblem((*place, "streaming"), f"must be {wanted}: the function is {kind}")
        )
    return problems + [
        InputProblem((*place, "parameters", *inner), reason)
        for inner, reason in _parameter_problems(function.parameters_schema(), signature)
    ]


def _parameter_problems(
    schema: Schema, signature: dict[str, Any]
) -> Iterator[tuple[InputLocation, str]]:
    properties, takes_any = schema["properties"], bool(signature.get("takes_any"))
    always_given = set(schema.get("required", ()))
    always_given |= {name for name, inner in properties.items() if _has_default(inner)}
    required, optional = _names(signature.get("required")), _names(signature.get("optional"))
    for name in sorted(set(properties) - required - optional):
        if not takes_any or name == signature.get("first"):
            yield (name,), "is not a parameter of the function"
    for name in sorted(required - set(properties)):
        yield (name,), "is a parameter of the function that the manifest does not describe"
    for name in sorted((required & set(properties)) - always_given):
        yield (
            (name,),
            "must be listed in required or have a default, because the function requires it",
        )
    for name in sorted(_names(signature.get("unnamed"))):
        yield (name,), "is positional-only; parameters are passed by name"
    if schema.get("additionalProperties") and not takes_any:
        yield ("additionalProperties",), "must be false: the function has no **parameters"


def _names(found: object) -> set[str]:
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def _has_default(schema: object) -> bool:
    return isinstance(schema, dict) and "default" in schema
