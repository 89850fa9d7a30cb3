"""Tables of the server's settings, from their fields."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from beray.server.settings import Settings
from tools.docs.markdown import code, field_docstrings, table

_TYPES: Final = {int: "int", float: "float", bool: "bool", str: "string", Path: "path"}
_MEANINGS: Final = field_docstrings(Settings)
_OWN_DEFAULT: Final = re.compile(r"(?P<text>.*?) ?Default: (?P<default>.+)\.")
_UNITS: Final = ((1024**3, "GiB"), (1024**2, "MiB"))
_DAY: Final = 24 * 3600


def generate(variables: str) -> str:
    """Return the table of the settings that are named in ``variables``."""
    names = [name.lower() for name in re.findall(r"`BERAY_(\w+)`", variables)]
    return table(["variable", "type", "default", "meaning"], map(_row, names))


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return f"BERAY_{field.upper()}"


def _row(name: str) -> tuple[str, str, str, str]:
    field = Settings.model_fields[name]
    meaning = _with_variables(_MEANINGS[name])
    own = _OWN_DEFAULT.fullmatch(meaning)
    default = own["default"] if own else _default(name, field)
    return code(variable(name)), _type(field), default, own["text"] if own else meaning


def _with_variables(meaning: str) -> str:
    """Replace the names of fields by those of their variables."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        known = name in Settings.model_fields and not re.search(r"^(model|command|acp)$", name)
        return code(variable(name)) if known else match[0]

    return re.sub(r"`([a-z0-9_]+)`", replace, meaning)


def _type(field: FieldInfo) -> str:
    kinds = [item for item in field.metadata if isinstance(item, str)]
    name = kinds[0] if kinds else _type_name(field.annotation)
    limits = [_limit(item) for item in field.metadata]
    return " ".join([name, " and ".join(limit for limit in limits if limit)]).strip()


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return str(get_args(annotation)[1])
    if get_origin(annotation) in (Union, types.UnionType):
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return ", ".join(map(code, get_args(annotation)))
    return "string" if annotation is SecretStr else _TYPES[annotation]


def _limit(constraint: object) -> str:
    match constraint:
        case annotated_types.Ge(ge=limit):
            return f"≥ {limit:,}"
        case annotated_types.Gt(gt=limit):
            return f"> {limit:,}"
        case annotated_types.Le(le=limit):
            return f"≤ {limit:,}"
    return ""


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return code(str(int(value)))
    if isinstance(value, str):
        return code(value)
    if name.endswith("_bytes"):
        for size, unit in _UNITS:
            if value and value % size == 0:
                return f"{value:,} ({value // size} {unit})"
    if name.endswith("_seconds") and value >= _DAY:
        days = int(value) // _DAY
        return f"{value:,} ({days} days)" if days > 1 else f"{value:,} (24 hours)"
    return f"{value:,.0f}" if value == int(value) and name != "smtp_port" else f"{value}"
