"""From ``--param`` and ``--file`` to what a function takes, by its spec."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from beray.cli.progress import Bars
from beray.exceptions import ConfigurationError, InvalidResponseError
from beray.gateway import GatewayClient
from beray.gateway.param_schema import type_of, types_of

MOST_BYTES: Final = 16 * 1024**2
"""Of a value that is read from a file."""
_S3: Final = "s3://"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NAMES: Final = {
    "integer": "an integer", "number": "a number", "boolean": "true or false",
    "array": "a JSON list", "object": "a JSON object", "null": "null",
}  # fmt: skip


class Function(NamedTuple):
    """What a spec says of the function that is called."""

    version: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]


def function_of(spec: Mapping[str, Any], name: str) -> Function:
    """The function ``name`` of a spec.

    Raises:
        ConfigurationError: there is none.
        InvalidResponseError: the spec has not its documented shape.
    """
    try:
        found = {one["name"]: one for one in spec["functions"]}
        if name not in found:
            known = ", ".join(map(str, found))
            raise ConfigurationError(f"there is no function {name!r}; it has {known}")
        one = found[name]
        parameters, inputs = one["parameters"], one["files"]["inputs"]
        if not isinstance(parameters, dict) or not isinstance(inputs, dict):
            raise TypeError
        return Function(str(spec["version"]), parameters, inputs)
    except (KeyError, TypeError):
        raise InvalidResponseError("the server's spec has an unexpected shape", body="") from None


def parameters(given: Sequence[str], function: Function) -> dict[str, Any]:
    """The values of ``KEY=VALUE``, each read as its schema wants it; ``@PATH`` is a file's text.

    Raises:
        ConfigurationError: one of them cannot be understood.
        OSError: a file cannot be read.
    """
    properties = function.parameters.get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    found: dict[str, Any] = {}
    for text in given:
        name, is_pair, value = text.partition("=")
        if not name or not is_pair:
            raise ConfigurationError(f"--param {text}: give a name and a value, as in unit=words")
        if name in found:
            raise ConfigurationError(f"--param {name} is given twice")
        if name not in schemas and not function.parameters.get("additionalProperties"):
            known = ", ".join(schemas) or "none"
            raise ConfigurationError(f"--param {name}: there is no such parameter; it has {known}")
        if value.startswith("@@"):
            value = value[1:]
        elif value.startswith("@"):
            value = _content(Path(value[1:]), name)
        found[name] = _value(name, value, types_of(schemas.get(name), function.parameters))
    return found


def _content(path: Path, name: str) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"--param {name}: {path} has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"--param {name}: {path} is no text in UTF-8") from None


def _value(name: str, text: str, kinds: set[str]) -> Any:
    """What ``text`` is for a parameter that is of one of ``kinds``; of any where there are none."""
    if kinds == {"string"}:
        return text
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        if not kinds or "string" in kinds:
            return text
        wanted = " or ".join(_NAMES.get(kind, kind) for kind in sorted(kinds))
        raise ConfigurationError(f"--param {name}: {text[:100]!r} is not {wanted}") from None
    # A text that happens to look like a number is one where no number is wanted.
    kind = type_of(value)
    fits = kind in kinds or (kind == "integer" and "number" in kinds)
    return text if "string" in kinds and not fits else value


def _refuse(name: str) -> Any:
    raise ValueError(name)


def local_files(given: Sequence[str], function: Function) -> list[tuple[str, str]]:
    """The keys and places of ``KEY=LOCAL``, in order.

    Raises:
        ConfigurationError: one of them cannot be understood, or one is missing.
        OSError: a file cannot be read.
    """
    found: list[tuple[str, str]] = []
    for text in given:
        key, _, place = text.partition("=")
        if not key or not place:
            raise ConfigurationError(f"--file {text}: give a key and a file, as in document=a.txt")
        if key not in function.inputs:
            known = ", ".join(function.inputs) or "none"
            raise ConfigurationError(f"--file {key}: there is no such input file; it has {known}")
        if not place.startswith(_S3):
            if _URL.match(place):
                raise ConfigurationError(
                    f"--file {key}: {place}: only local files and s3:// URLs can be given"
                )
            Path(place).open("rb").close()
        found.append((key, place))
    for key, wanted in function.inputs.items():
        if isinstance(wanted, dict) and wanted.get("required") and key not in dict(found):
            raise ConfigurationError(f"the file {key!r} is needed: --file {key}=LOCAL")
    return found


def uploaded(
    client: GatewayClient, places: Sequence[tuple[str, str]], begin: Bars
) -> dict[str, list[str]]:
    """Upload the local ones; the URLs of all, by key."""
    urls: dict[str, list[str]] = {}
    for key, place in places:
        url = place
        if not place.startswith(_S3):
            url = client.upload_input_file(place, transfer=begin(Path(place).name))
        urls.setdefault(key, []).append(url)
    return urls
