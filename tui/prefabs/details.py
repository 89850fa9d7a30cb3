"""Documents that describe a prefab and its functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from beray.gateway.param_schema import resolved
from beray.sanitize import one_line
from tui import status
from tui.document import Document
from tui.prefabs.form.schema import FieldKind, ParameterField, as_json, display_value, fields
from tui.prefabs.spec import DEPLOYED, FileInput, PrefabFunction, PrefabSpec, PrefabSummary

_TEXT: Final = "event--output"
_NOTE: Final = "event--note"
_HEAD: Final = "event--file"
_NAME: Final = "event--call"
_BAD: Final = "event--failure"
_MAX_RETURNED: Final = 40
_MAX_CHARACTERS: Final = 20_000


def document(spec: PrefabSpec, function: str = "") -> Document:
    """Return the description of a prefab and its functions, or only of ``function`` if given."""
    page = Document()
    page.append(_version(spec), _NOTE)
    if spec.status != DEPLOYED:
        page.append(f"The prefab is {one_line(spec.status, 40)} and cannot be called.", _BAD)
    if spec.description:
        page.append(spec.description[:_MAX_CHARACTERS].strip(), _TEXT)
    chosen = spec.function(function)
    for one in spec.functions if chosen is None else (chosen,):
        _function(page, one)
    return page


def _version(spec: PrefabSpec) -> str:
    words = f"{one_line(spec.id, 80)}  {one_line(spec.version, 40)}"
    if len(spec.versions) > 1:
        words += f"  ·  {len(spec.versions)} versions, press v for another"
    return words


def _function(page: Document, function: PrefabFunction) -> None:
    page.append("", _TEXT)
    page.append(one_line(function.name, 80), _HEAD)
    if function.description:
        page.append(function.description[:_MAX_CHARACTERS].strip(), _TEXT)
    page.append(" · ".join(_conditions(function)), _NOTE)
    _section(page, "Parameters", [_parameter(one) for one in fields(function.parameters)])
    _section(page, "Input files", [_file(one) for one in function.inputs])
    _section(page, "Output files", [_file(one, out=True) for one in function.outputs])
    secrets = [(one.name, "", one.instructions) for one in function.secrets]
    _section(page, "Required secrets", secrets)
    _section(page, "Returns", list(_returned(function.returns)))


def _section(page: Document, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Add rows of a name, a type and a description."""
    if not rows:
        return
    page.append("", _TEXT)
    page.append(title, _NOTE)
    for name, kind, words in rows:
        page.append(f"  {one_line(name, 80)}  {one_line(kind, 300)}".rstrip(), _NAME)
        if words:
            page.append(f"      {one_line(words, 2000)}", _TEXT)


def _conditions(function: PrefabFunction) -> Iterator[str]:
    yield "streams its output" if function.streaming else "no streaming"
    if function.seconds is not None:
        yield f"at most {function.seconds:g} s"
    if function.memory_bytes is not None:
        yield f"{status.size(function.memory_bytes)} of memory"
    yield "with network" if function.network else "without network"
    if function.gateway:
        yield "runs prefabs in your name"


def _parameter(field: ParameterField) -> tuple[str, str, str]:
    words = [field.kind.value, "required" if field.required else ""]
    if field.choices:
        words.insert(1, " ".join(display_value(one) for one in field.choices[:20]))
    if field.initial and not field.secret:
        shown = field.initial
        if field.kind is FieldKind.CHOICE:
            shown = next(display_value(one) for one in field.choices if as_json(one) == shown)
        words.append(f"default {shown}")
    kind = ", ".join(filter(None, words))
    return field.name or "(all parameters)", kind, field.description


def _file(key: FileInput, *, out: bool = False) -> tuple[str, str, str]:
    words = ["files" if key.many else "a file", " ".join(key.types)]
    if not out:
        words.append("required" if key.required else "optional")
    return key.key, ", ".join(filter(None, words)), key.description


def _returned(returns: Any) -> Iterator[tuple[str, str, str]]:
    schema = resolved(returns, returns) if isinstance(returns, dict) else {}
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        if schema:
            yield display_value(schema.get("type", "any JSON")), "", ""
        return
    for name, own in list(properties.items())[:_MAX_RETURNED]:
        one = resolved(own, schema)
        kind, words = one.get("type"), one.get("description")
        shown = kind if isinstance(kind, str) else ""
        yield str(name), shown, words if isinstance(words, str) else ""


def outline(known: PrefabSummary) -> Document:
    """Return the description from the list, shown while the spec is being read."""
    page = Document()
    page.append(f"{one_line(known.id, 80)}  {one_line(known.version, 40)}", _NOTE)
    if known.description:
        page.append(known.description[:_MAX_CHARACTERS].strip(), _TEXT)
    return page


def problem(known: PrefabSummary, words: str) -> Document:
    """Return the description from the list with the reason why the spec could not be read."""
    page = outline(known)
    page.append("", _TEXT)
    page.append(words, _BAD)
    return page
