"""``prefab.toml``: what a prefab says of itself.

Source: docs/prefabs.md; TOML 1.0.0; PEP 508 for the names of distributions.
"""

from __future__ import annotations

import keyword
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from beray.sanitize import one_line
from beray.server.http.validation_errors import InputLocation, InputProblem
from beray.server.prefabs import json_schema
from beray.server.prefabs.json_schema import Schema
from beray.server.prefabs.versions import Version

FILE: Final = "prefab.toml"
MOST_BYTES: Final = 64 * 1024
"""Of the file."""
ID_FORM: Final = r"[a-z][a-z0-9-]{0,63}"
_KEY_FORM: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_DISTRIBUTION_FORM: Final = r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9])$"
_TYPE_FORM: Final = r"^(\.[a-z0-9]{1,16}){1,3}$"
_SECRET_FORM: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
_LONGEST_SECONDS: Final = 24 * 3600
_LEAST_MEMORY: Final = 32 * 1024**2


class ManifestError(Exception):
    """A manifest cannot be used; ``problems`` says why, all at once."""

    def __init__(self, problems: list[InputProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _identifier(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or len(name) > 100:
        raise ValueError("is not the name of a Python function or module")
    return name


def _version(text: str) -> str:
    Version.parse(text)
    return text


Identifier = Annotated[str, AfterValidator(_identifier)]
Description = Annotated[str, Field(max_length=4000)]
Key = Annotated[str, Field(pattern=_KEY_FORM)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputFile(_Strict):
    description: Description = ""
    required: bool = True
    many: bool = False
    types: list[Annotated[str, Field(pattern=_TYPE_FORM)]] = []
    """Endings, in small letters; without any, all are taken."""


class OutputFile(_Strict):
    description: Description = ""
    many: bool = False


class Files(_Strict):
    inputs: dict[Key, InputFile] = {}
    outputs: dict[Key, OutputFile] = {}


class Secret(_Strict):
    name: Annotated[str, Field(pattern=_SECRET_FORM)]
    instructions: Annotated[str, Field(max_length=2000)] = ""
    """How somebody comes by one."""


class Function(_Strict):
    description: Description = ""
    streaming: bool = False
    seconds: Annotated[float, Field(strict=False, gt=0, le=_LONGEST_SECONDS)] = 60.0
    memory_bytes: Annotated[int, Field(ge=_LEAST_MEMORY, le=2**50)] = 1024**3
    network: bool = False
    gateway: bool = False
    """Whether it gets access to the gateway, as an agent of its caller."""
    parameters: dict[str, Any] = {}
    returns: dict[str, Any] | None = None
    files: Files = Files()
    secrets: list[Secret] = []

    def parameters_schema(self) -> Schema:
        """The schema of the parameters, with what it leaves open settled."""
        settled = {"type": "object", "properties": {}, "additionalProperties": False}
        return settled | self.parameters


class Prefab(_Strict):
    """The table ``[prefab]``."""

    id: Annotated[str, Field(pattern=f"^{ID_FORM}$")]
    version: Annotated[str, AfterValidator(_version)]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: Description = ""
    status: Literal["deployed", "disabled"] = "deployed"
    module: Identifier
    requires: list[Annotated[str, Field(pattern=_DISTRIBUTION_FORM)]] = []


class Manifest(_Strict):
    prefab: Prefab
    functions: Annotated[dict[Identifier, Function], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        for name, function in self.functions.items():
            secrets = [secret.name for secret in function.secrets]
            if len(set(secrets)) < len(secrets):
                raise ValueError(f"functions.{name}.secrets: a name is there twice")
        return self


def read(folder: Path, *, is_known: bool = False) -> Manifest:
    """The manifest of the prefab in ``folder``.

    Args:
        is_known: its schemas are known to be good, and are not looked at.

    Raises:
        ManifestError: it is missing, or cannot be used.
    """
    try:
        with (folder / FILE).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        missing = InputProblem((FILE,), "is not there; it stands at the top of the prefab's folder")
        raise ManifestError([missing]) from None
    except OSError as error:
        raise ManifestError([InputProblem((FILE,), error.strerror or "cannot be read")]) from None
    if len(data) > MOST_BYTES:
        raise ManifestError([InputProblem((FILE,), f"has more than {MOST_BYTES:,} bytes")])
    return parse(data, is_known=is_known)


def parse(data: bytes, *, is_known: bool = False) -> Manifest:
    """The manifest that ``data`` is. ``is_known`` is as for ``read``.

    Raises:
        ManifestError: it cannot be used.
    """
    try:
        given = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        said = one_line(str(error)) if isinstance(error, tomllib.TOMLDecodeError) else "no UTF-8"
        raise ManifestError([InputProblem((FILE,), f"is no TOML: {said}")]) from None
    try:
        found, problems = Manifest.model_validate(given), []
    except ValidationError as error:
        found, problems = None, _problems_of(error)
    if not is_known:
        problems += _of_schemas(given)
    if found is None or problems:
        raise ManifestError(problems)
    return found


def _problems_of(error: ValidationError) -> list[InputProblem]:
    problems = []
    for one in error.errors(include_url=False, include_input=False):
        said = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            said = "is not known"
        place = tuple(at for at in one["loc"] if at != "[key]")
        problems.append(InputProblem(place, said).sanitized())
    return problems


def _of_schemas(given: Mapping[str, Any]) -> list[InputProblem]:
    """What is wrong with the schemas, as far as there are any to look at."""
    problems = []
    functions = given.get("functions")
    for name, function in functions.items() if isinstance(functions, dict) else ():
        if not isinstance(function, dict):
            continue
        for part in ("parameters", "returns"):
            at = ("functions", name, part)
            if not isinstance(schema := function.get(part), dict):
                continue
            found = json_schema.schema_problems(schema)
            if part == "parameters" and not found:
                found = _names(schema)
            problems += [InputProblem((*at, *one.loc), one.msg).sanitized() for one in found]
    return problems


def _names(schema: Schema) -> list[InputProblem]:
    """Parameters are given to a function by name."""
    problems, properties = [], schema.get("properties", {})
    for name in properties:
        at: InputLocation = ("properties", name)
        if not name.isidentifier() or keyword.iskeyword(name):
            problems.append(InputProblem(at, "is not the name of a Python parameter"))
    for number, name in enumerate(schema.get("required", ())):
        if name not in properties and not schema.get("additionalProperties"):
            problems.append(
                InputProblem(("required", number), f"{name!r} is not among the properties")
            )
    return problems


def spec(manifest: Manifest, versions: list[str]) -> dict[str, Any]:
    """What ``GET /v1/prefabs/{id}/{version}/spec`` says.

    Args:
        versions: all there are, the newest first.
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


_ID: Final = re.compile(ID_FORM)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
