"""Reference of the exceptions, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType
from typing import Final, NamedTuple

from tools.docs.markdown import anchor, code, from_docstring, in_one_line, table

_REMEDY: Final = re.compile(r"^Remedy: (.+?)(?=\n\n|\Z)\n*", re.M | re.S)
_SECTION: Final = re.compile(r"^(?:Attributes|Raises):\n", re.M)
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.M)


class Documentation(NamedTuple):
    """Parts of the docstring of an exception."""

    cause: str
    remedy: str
    attributes: dict[str, str]


def generate(module: str) -> str:
    """Return a section for each exception of the module that is named in ``module``."""
    match = re.search(r"`([\w.]+)`", module)
    assert match is not None
    imported = importlib.import_module(match[1])
    found = exceptions(imported)
    prefix = "" if match[1] == "beray.exceptions" else f"{match[1].split('.')[1]}."
    rows = [
        (f"[`{cls.__name__}`](#{anchor(prefix + cls.__name__)})", _first_sentence(cls))
        for cls in found
    ]
    sections = [_section(cls, prefix) for cls in found]
    return "\n".join([table(["exception", "cause"], rows), *sections])


def exceptions(module: ModuleType) -> list[type[Exception]]:
    """Return the exceptions that a module defines, in its order."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == module.__name__
    ]


def documentation(cls: type[Exception]) -> Documentation:
    """Return the documentation of an exception; its remedy may be that of a base class."""
    text = from_docstring(cls.__doc__ or "")
    remedy = next(
        (
            in_one_line(match[1])
            for base in cls.__mro__
            if (match := _REMEDY.search(from_docstring(base.__doc__ or "")))
        ),
        "",
    )
    body, *sections = _SECTION.split(_REMEDY.sub("", text))
    attributes = {
        name: in_one_line(meaning)
        for name, meaning in _ATTRIBUTE.findall(sections[0] if "Attributes:" in text else "")
    }
    return Documentation(body.strip(), remedy, attributes)


def _section(cls: type[Exception], prefix: str) -> str:
    cause, remedy, attributes = documentation(cls)
    bases = ", ".join(code(_qualified(base)) for base in cls.__bases__)
    parts = [f"### {prefix}{cls.__name__}\n", f"Base classes: {bases}.\n", f"{cause}\n"]
    if remedy:
        parts.append(f"**Remedy:** {remedy}\n")
    rows = [(code(name), meaning) for name, meaning in attributes.items()]
    return "\n".join([*parts, table(["attribute", "meaning"], rows)])


def _first_sentence(cls: type[Exception]) -> str:
    cause = in_one_line(documentation(cls).cause.split("\n\n")[0])
    return re.split(r"(?<=\.) (?=[A-Z])", cause)[0]


def _qualified(cls: type[BaseException]) -> str:
    names = {"beray.exceptions": "beray", "beray.gateway.exceptions": "beray.gateway"}
    module = names.get(cls.__module__, cls.__module__)
    return cls.__name__ if module == "builtins" else f"{module}.{cls.__name__}"
