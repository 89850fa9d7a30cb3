"""Manifests (``prefab.toml``) and versions of prefabs.

Source: docs/guides/prefabs.md; TOML 1.0.0; PEP 508 for the names of distributions; Semantic
Versioning 2.0.0 for versions.
"""

from __future__ import annotations

import keyword
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from beray.sanitize import one_line
from beray.server.http.validation_errors import (
    Describe,
    InputLocation,
    InputProblem,
    from_validation_error,
)
from beray.server.prefabs import json_schema
from beray.server.prefabs.json_schema import Schema

FILE_NAME: Final = "prefab.toml"
MAX_BYTES: Final = 64 * 1024
"""Maximum size of the manifest file, in bytes."""
ID_PATTERN: Final = r"[a-z][a-z0-9-]{0,63}"
_KEY_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_DISTRIBUTION_PATTERN: Final = r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9])$"
_TYPE_PATTERN: Final = r"^(\.[a-z0-9]{1,16}){1,3}$"
_SECRET_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
_MAX_SECONDS: Final = 24 * 3600
_MIN_MEMORY_BYTES: Final = 32 * 1024**2
_PATTERN_RULES: Final = {
    f"^{ID_PATTERN}$": "must be 1 to 64 lowercase letters, digits and hyphens, a letter first",
    _KEY_PATTERN: "must be 1 to 64 letters, digits, underscores and hyphens, a letter first",
    _DISTRIBUTION_PATTERN: "must be the name of a Python distribution, without a version",
    _TYPE_PATTERN: "must be a lowercase file name extension such as .txt or .tar.gz",
    _SECRET_PATTERN: "must be 1 to 100 letters, digits and underscores, not a digit first",
}
"""Messages about values that do not match a pattern."""

MAX_VERSION_CHARACTERS: Final = 64
"""A version is also the name of a directory."""
_NUMBER: Final = r"(0|[1-9][0-9]*)"
_PRE_RELEASE_PART: Final = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_PRE_RELEASE_PART}(?:\.{_PRE_RELEASE_PART})*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


class ManifestError(Exception):
    """The manifest or the directory of a prefab is invalid.

    Attributes:
        problems: All problems that were found.
    """

    def __init__(self, problems: list[InputProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


# Versions


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """Semantic version.

    Versions that differ only in their build metadata are ordered by it, so that one of them is
    the newest.
    """

    text: str
    numbers: tuple[int, int, int]
    pre: tuple[str, ...]
    build: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the version that ``text`` denotes.

        Raises:
            ValueError: ``text`` is not a semantic version, or is too long.
        """
        found = _VERSION.fullmatch(text) if len(text) <= MAX_VERSION_CHARACTERS else None
        if found is None:
            raise ValueError(
                f"must be a semantic version such as 1.0.0, of at most {MAX_VERSION_CHARACTERS} "
                "characters"
            )
        major, minor, patch, pre, build = found.groups()
        numbers = (int(major), int(minor), int(patch))
        return cls(text, numbers, tuple(pre.split(".")) if pre else (), build or "")

    @property
    def is_release(self) -> bool:
        """True unless the version is a pre-release."""
        return not self.pre

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: Self) -> bool:
        return self._precedence() < other._precedence()

    def _precedence(self) -> tuple[object, ...]:
        # Numbers precede words, and a shorter list of parts precedes its continuations.
        pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre)
        return self.numbers, self.is_release, pre, self.build


def newest_first(versions: list[Version]) -> list[Version]:
    """Return the versions in descending order, all releases before all pre-releases."""
    return sorted(versions, key=lambda version: (version.is_release, version), reverse=True)


# The manifest


def _check_identifier(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or len(name) > 100:
        raise ValueError("must be a valid name of a Python function or module")
    return name


def _check_version(text: str) -> str:
    Version.parse(text)
    return text


Identifier = Annotated[str, AfterValidator(_check_identifier)]
Description = Annotated[str, Field(max_length=4000)]
Key = Annotated[str, Field(pattern=_KEY_PATTERN)]


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputFileSpec(_StrictModel):
    """Input file of a function."""

    description: Description = ""
    required: bool = True
    many: bool = False
    types: list[Annotated[str, Field(pattern=_TYPE_PATTERN)]] = []
    """Allowed file name extensions in lowercase; an empty list allows all."""


class OutputFileSpec(_StrictModel):
    """Output file of a function."""

    description: Description = ""
    many: bool = False


class FileSpecs(_StrictModel):
    """Input and output files of a function, by key."""

    inputs: dict[Key, InputFileSpec] = {}
    outputs: dict[Key, OutputFileSpec] = {}


class SecretSpec(_StrictModel):
    """Secret that a function needs."""

    name: Annotated[str, Field(pattern=_SECRET_PATTERN)]
    instructions: Annotated[str, Field(max_length=2000)] = ""
    """Instructions for obtaining the secret."""


class FunctionSpec(_StrictModel):
    """Table ``[functions.NAME]``."""

    description: Description = ""
    streaming: bool = False
    seconds: Annotated[float, Field(strict=False, gt=0, le=_MAX_SECONDS)] = 60.0
    memory_bytes: Annotated[int, Field(ge=_MIN_MEMORY_BYTES, le=2**50)] = 1024**3
    network: bool = False
    gateway: bool = False
    """True if the function gets access to the gateway, as an agent of its caller."""
    parameters: dict[str, Any] = {}
    returns: dict[str, Any] | None = None
    files: FileSpecs = FileSpecs()
    secrets: list[SecretSpec] = []

    def parameters_schema(self) -> Schema:
        """Return the schema of the parameters, completed with its default keywords."""
        defaults = {"type": "object", "properties": {}, "additionalProperties": False}
        return defaults | self.parameters


class PrefabTable(_StrictModel):
    """Table ``[prefab]``."""

    id: Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
    version: Annotated[str, AfterValidator(_check_version)]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: Description = ""
    status: Literal["deployed", "disabled"] = "deployed"
    module: Identifier
    requires: list[Annotated[str, Field(pattern=_DISTRIBUTION_PATTERN)]] = []


class Manifest(_StrictModel):
    """Contents of ``prefab.toml``."""

    prefab: PrefabTable
    functions: Annotated[dict[Identifier, FunctionSpec], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _check_secret_names(self) -> Self:
        for name, function in self.functions.items():
            secrets = [secret.name for secret in function.secrets]
            if len(set(secrets)) < len(secrets):
                raise ValueError(f"functions.{name}.secrets: each name may occur only once")
        return self


def read(directory: Path, *, trusted: bool = False) -> Manifest:
    """Return the manifest of the prefab in ``directory``.

    Args:
        directory: Directory of the prefab.
        trusted: Skip the checks of the JSON schemas, which take most of the time.

    Raises:
        ManifestError: The manifest is missing, unreadable or invalid.
    """
    try:
        with (directory / FILE_NAME).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        reason = "is missing; it must be at the top level of the prefab's directory"
        raise ManifestError([InputProblem((FILE_NAME,), reason)]) from None
    except OSError as error:
        reason = f"cannot be read: {error.strerror or type(error).__name__}"
        raise ManifestError([InputProblem((FILE_NAME,), reason)]) from None
    if len(data) > MAX_BYTES:
        reason = f"is too large; the limit is {MAX_BYTES:,} bytes"
        raise ManifestError([InputProblem((FILE_NAME,), reason)])
    return parse(data, trusted=trusted)


def parse(data: bytes, *, trusted: bool = False) -> Manifest:
    """Return the manifest in ``data``, the contents of a ``prefab.toml``.

    Args:
        data: Contents of the file, encoded in UTF-8.
        trusted: Skip the checks of the JSON schemas.

    Raises:
        ManifestError: The data is not valid TOML, or the manifest is invalid.
    """
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            reason = one_line(str(error))
        elif isinstance(error, UnicodeDecodeError):
            reason = "the file is not encoded in UTF-8"
        else:
            reason = "the tables are nested too deeply"
        raise ManifestError([InputProblem((FILE_NAME,), f"is not valid TOML: {reason}")]) from None
    try:
        manifest, problems = Manifest.model_validate(tables), []
    except ValidationError as error:
        manifest, problems = None, _to_problems(error)
    if not trusted:
        problems += _schema_problems(tables)
    if manifest is None or problems:
        raise ManifestError(problems)
    return manifest


def _to_problems(error: ValidationError) -> list[InputProblem]:
    problems = []
    for details in error.errors(include_url=False):
        problem = from_validation_error(details, wording=_TOML_WORDING)
        place = tuple(part for part in problem.loc if part != "[key]")
        problems.append(InputProblem(place, problem.msg).sanitized())
    return problems


_TOML_WORDING: Final[dict[str, Describe]] = {
    "missing": lambda _limits, _value: "is missing",
    "extra_forbidden": lambda _limits, _value: "is not a known key",
    "string_type": lambda _limits, _value: "must be a string",
    "bool_type": lambda _limits, _value: "must be true or false",
    "int_type": lambda _limits, _value: "must be an integer",
    "int_from_float": lambda _limits, _value: "must be an integer",
    "float_type": lambda _limits, _value: "must be a number",
    "float_parsing": lambda _limits, _value: "must be a number",
    "list_type": lambda _limits, _value: "must be an array",
    "dict_type": lambda _limits, _value: "must be a table",
    "model_type": lambda _limits, _value: "must be a table",
    "model_attributes_type": lambda _limits, _value: "must be a table",
    "greater_than": lambda limits, _value: f"must be greater than {limits['gt']:g}",
    "greater_than_equal": lambda limits, _value: f"must be at least {limits['ge']:,}",
    "less_than_equal": lambda limits, _value: f"must be at most {limits['le']:,}",
    "string_too_short": lambda _limits, _value: "must not be empty",
    "string_too_long": lambda limits, _value: (
        f"must have at most {limits['max_length']:,} characters"
    ),
    "too_short": lambda _limits, _value: "must have at least one entry",
    "too_long": lambda limits, _value: f"must have at most {limits['max_length']:,} entries",
    "string_pattern_mismatch": lambda limits, _value: _PATTERN_RULES[limits["pattern"]],
}
"""Descriptions of pydantic's errors in the terms of TOML."""


def _schema_problems(tables: Mapping[str, Any]) -> list[InputProblem]:
    """Return the problems of all schemas in a manifest, which may be invalid otherwise."""
    problems = []
    functions = tables.get("functions")
    for name, function in functions.items() if isinstance(functions, dict) else ():
        if not isinstance(function, dict):
            continue
        for key in ("parameters", "returns"):
            place = ("functions", name, key)
            if not isinstance(schema := function.get(key), dict):
                continue
            found = json_schema.schema_problems(schema)
            if key == "parameters" and not found:
                found = _name_problems(schema)
            problems += [
                InputProblem((*place, *inner.loc), inner.msg).sanitized() for inner in found
            ]
    return problems


def _name_problems(schema: Schema) -> list[InputProblem]:
    """Check the names of parameters, which are passed to a function as keywords."""
    problems, properties = [], schema.get("properties", {})
    for name in properties:
        place: InputLocation = ("properties", name)
        if not name.isidentifier() or keyword.iskeyword(name):
            problems.append(InputProblem(place, "must be a valid name of a Python parameter"))
    for number, name in enumerate(schema.get("required", ())):
        if name not in properties and not schema.get("additionalProperties"):
            problems.append(
                InputProblem(("required", number), f"{name!r} is not one of the properties")
            )
    return problems


def spec(manifest: Manifest, versions: list[str]) -> dict[str, Any]:
    """Return the body of ``GET /v1/prefabs/{id}/{version}/spec``.

    Args:
        manifest: Manifest of the version.
        versions: All versions of the prefab, newest first.
    """
    prefab = manifest.prefab
    return {
        "id": prefab.id,
        "version": prefab.version,
        "name": prefab.title,
        "description": prefab.description,
        "status": prefab.status,
        "versions": versions,
        "functions": [
            {
                "name": name,
                "description": function.description,
                "streaming": function.streaming,
                "parameters": function.parameters_schema(),
                "returns": function.returns,
                "files": function.files.model_dump(),
                "secrets": [secret.model_dump() for secret in function.secrets],
                "seconds": function.seconds,
                "memory_bytes": function.memory_bytes,
                "network": function.network,
                "gateway": function.gateway,
            }
            for name, function in manifest.functions.items()
        ],
    }


_ID: Final = re.compile(ID_PATTERN)


def is_id(text: str) -> bool:
    """Return True if ``text`` is a valid id of a prefab."""
    return _ID.fullmatch(text) is not None
