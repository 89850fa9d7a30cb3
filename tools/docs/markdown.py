"""Helpers for generated Markdown."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

EXTENSION: Final = "BeRay extension."
"""Sentence in docstrings of fields and calls that are not part of the published API."""

_FIELD: Final = re.compile(r"``(\w+)``: (.+?)(?=\s+``\w+``: |\Z)", re.S)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; "" if it has no rows. Cells are Markdown in one line."""
    lines = [_row(cells) for cells in rows]
    if not lines:
        return ""
    return "\n".join([_row(head), _row(["---"] * len(head)), *lines]) + "\n"


def code(text: str) -> str:
    """Return ``text`` as code."""
    return f"`{text}`"


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as Git hosts and the site generate it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def from_docstring(docstring: str) -> str:
    """Return a docstring as Markdown: code in single backticks, roles as code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"``\1``", inspect.cleandoc(docstring))
    return text.replace("``", "`")


def in_one_line(markdown: str) -> str:
    """Return ``markdown`` without line breaks."""
    return " ".join(markdown.split())


def field_docstrings(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings below the fields of a class, in one line, by the names of the fields.

    Those of its base classes are included, as far as their source is Python. A TypedDict that is
    created by a call, because of a key that is a keyword, has them in its docstring, such as
    "``from``: the origin."
    """
    found: dict[str, str] = {}
    for base in reversed([base for base in _bases(cls) if base.__module__.startswith("beray.")]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except OSError:
            docstring = _docstring_of_assignment(base)
            found |= {name: in_one_line(text) for name, text in _FIELD.findall(docstring)}
            continue
        assert isinstance(tree, ast.ClassDef)
        for statement, following in pairwise(tree.body):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = in_one_line(from_docstring(text))
    return found


def _docstring_of_assignment(cls: type[Any]) -> str:
    """Return the docstring below the assignment of a class that is created by a call."""
    module = inspect.getmodule(cls)
    assert module is not None
    statements = ast.parse(inspect.getsource(module)).body
    for statement, following in pairwise(statements):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=cls.__name__)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                return text
    return ""


def _bases(cls: type[Any]) -> list[type[Any]]:
    """Return a class and its bases; TypedDicts have them in ``__orig_bases__`` only."""
    bases = [base for base in getattr(cls, "__orig_bases__", ()) if isinstance(base, type)]
    inherited = [found for base in bases if base is not cls for found in _bases(base)]
    return list(dict.fromkeys([*cls.__mro__[:-1], *inherited]))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
