"""Inputs of a prefab call: parsing of ``--param`` and ``--file``, uploads, rejected inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

from beray.cli.progress import StartBar
from beray.exceptions import ConfigurationError, InvalidResponseError
from beray.gateway import GatewayClient, RejectedInput
from beray.gateway.param_schema import type_of, types_of

MAX_PARAMETER_FILE_BYTES: Final = 16 * 1024**2
"""Maximum size of a file whose text becomes a parameter."""
_S3: Final = "s3://"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TYPE_NAMES: Final = {
    "integer": "an integer", "number": "a number", "boolean": "true or false",
    "array": "a JSON list", "object": "a JSON object", "null": "null",
}  # fmt: skip


class CalledFunction(NamedTuple):
    """Function of a prefab's spec.

    Attributes:
        version: Version of the prefab.
        parameters: JSON Schema of the parameters.
        inputs: Descriptions of the input files, by key.
    """

    version: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]


def function_spec(spec: Mapping[str, Any], name: str) -> CalledFunction:
    """Return the function ``name`` of a spec.

    Raises:
        ConfigurationError: The prefab has no such function.
        InvalidResponseError: The spec does not have its documented structure.
    """
    try:
        functions = {function["name"]: function for function in spec["functions"]}
        if name not in functions:
            known = ", ".join(map(str, functions))
            raise ConfigurationError(f"the prefab has no function {name!r}; it has {known}")
        function = functions[name]
        parameters, inputs = function["parameters"], function["files"]["inputs"]
        if not isinstance(parameters, dict) or not isinstance(inputs, dict):
            raise TypeError
        return CalledFunction(str(spec["version"]), parameters, inputs)
    except (KeyError, TypeError):
        raise InvalidResponseError("the server's spec has an unexpected shape", body="") from None


def parse_parameters(texts: Sequence[str], function: CalledFunction) -> dict[str, Any]:
    """Return the parameters of ``KEY=VALUE`` options, interpreted by the function's schema.

    ``@PATH`` stands for the text of a file, ``@@`` for a leading ``@``.

    Raises:
        ConfigurationError: An option is not ``KEY=VALUE``, its key is unknown or repeated, or its
            value does not have the type of the parameter.
        OSError: A file cannot be read.
    """
    properties = function.parameters.get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    values: dict[str, Any] = {}
    for text in texts:
        name, is_pair, value = text.partition("=")
        if not name or not is_pair:
            raise ConfigurationError(f"--param {text}: expected KEY=VALUE, such as unit=words")
        if name in values:
            raise ConfigurationError(f"--param {name} is given twice; pass it once")
        if name not in schemas and not function.parameters.get("additionalProperties"):
            known = ", ".join(schemas) or "none"
            raise ConfigurationError(
                f"--param {name}: unknown parameter; the function's parameters are: {known}"
            )
        if value.startswith("@@"):
            value = value[1:]
        elif value.startswith("@"):
            value = _file_text(Path(value[1:]), name)
        values[name] = _parse_value(name, value, types_of(schemas.get(name), function.parameters))
    return values


def _file_text(path: Path, name: str) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_PARAMETER_FILE_BYTES + 1)
    if len(data) > MAX_PARAMETER_FILE_BYTES:
        raise ConfigurationError(
            f"--param {name}: {path} is larger than {MAX_PARAMETER_FILE_BYTES:,} bytes"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"--param {name}: {path} is not UTF-8 text") from None


def _parse_value(name: str, text: str, types: set[str]) -> Any:
    """Return the value of ``text`` for a parameter of one of ``types``; empty: of any type."""
    if types == {"string"}:
        return text
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        if not types or "string" in types:
            return text
        expected = " or ".join(_TYPE_NAMES.get(type_, type_) for type_ in sorted(types))
        raise ConfigurationError(f"--param {name} expects {expected}, got {text[:100]!r}") from None
    # Text that looks like a number remains a string if the parameter accepts no number.
    value_type = type_of(value)
    fits = value_type in types or (value_type == "integer" and "number" in types)
    return text if "string" in types and not fits else value


def _reject_constant(name: str) -> Any:
    """Reject NaN and Infinity, which Python accepts but JSON does not have."""
    raise ValueError(name)


def parse_files(texts: Sequence[str], function: CalledFunction) -> list[tuple[str, str]]:
    """Return the keys and locations of ``KEY=LOCAL`` options, in order.

    Raises:
        ConfigurationError: An option is not ``KEY=LOCAL``, its key is unknown, its location is
            an unsupported URL, or a required file is missing.
        OSError: A file cannot be read.
    """
    files: list[tuple[str, str]] = []
    for text in texts:
        key, _, location = text.partition("=")
        if not key or not location:
            raise ConfigurationError(f"--file {text}: expected KEY=LOCAL, such as document=a.txt")
        if key not in function.inputs:
            known = ", ".join(function.inputs) or "none"
            raise ConfigurationError(
                f"--file {key}: unknown input file; the function's input files are: {known}"
            )
        if not location.startswith(_S3):
            if _URL.match(location):
                raise ConfigurationError(
                    f"--file {key}: {location} is neither a local file nor an s3:// URL"
                )
            Path(location).open("rb").close()
        files.append((key, location))
    for key, description in function.inputs.items():
        is_required = isinstance(description, dict) and description.get("required")
        if is_required and key not in dict(files):
            raise ConfigurationError(f"the input file {key!r} is required; pass --file {key}=LOCAL")
    return files


def upload_files(
    client: GatewayClient, files: Sequence[tuple[str, str]], start_bar: StartBar
) -> dict[str, list[str]]:
    """Upload the local files, and return the URLs of all files by key."""
    urls: dict[str, list[str]] = {}
    for key, location in files:
        url = location
        if not location.startswith(_S3):
            url = client.upload_input_file(location, transfer=start_bar(Path(location).name))
        urls.setdefault(key, []).append(url)
    return urls


def rejection_messages(error: RejectedInput, files: Sequence[tuple[str, str]]) -> list[str]:
    """Return the problems of rejected inputs, each with the option that it concerns.

    Args:
        error: Response of the gateway.
        files: Keys and locations of the files, in the order of the options.

    Returns:
        One message for each problem; an empty list if the gateway reports none.
    """
    problems = error.details.get("errors")
    messages = []
    for problem in problems if isinstance(problems, list) else ():
        if isinstance(problem, Mapping) and isinstance(problem.get("msg"), str):
            option = _option(problem.get("loc"), files)
            messages.append(f"{option}: {problem['msg']}" if option else problem["msg"])
    return messages


def _option(loc: Any, files: Sequence[tuple[str, str]]) -> str:
    parts = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []
    inner = parts[parts.index("inputs") + 1 :] if "inputs" in parts else []
    match inner:
        case ["parameters", name, *rest]:
            return ": ".join(filter(None, [f"--param {name}", ".".join(rest)]))
        case ["parameters"]:
            return "--param"
        case ["files", key, *rest]:
            return f"--file {key}{_file_name(key, rest, files)}"
        case ["files"]:
            return "--file"
    return ".".join(parts)


def _file_name(key: str, rest: Sequence[str], files: Sequence[tuple[str, str]]) -> str:
    """Return the name of the file in parentheses if the gateway reports its position."""
    locations = [location for other_key, location in files if other_key == key]
    if rest and rest[0].isdecimal() and int(rest[0]) < len(locations):
        return f" ({PurePath(locations[int(rest[0])]).name})"
    return ""
