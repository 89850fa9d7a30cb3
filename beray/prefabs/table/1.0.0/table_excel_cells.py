"""Cells of an Excel sheet that a column of one type cannot hold, found in its XML.

fastexcel makes errors empty and truth values among numbers numbers, and says nothing of it.
"""

from __future__ import annotations

import html
import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from table_names import some

_SHEET = re.compile(r"<(?:\w+:)?sheet\s[^>]*>")
_LINK = re.compile(r"<(?:\w+:)?Relationship\s[^>]*>")
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_SPECIAL = re.compile(rb"""\st=["'][be]["']""")
_ROW_OR_CELL = re.compile(
    rb"<(?:\w+:)?(?:(row)\b([^>]*)>|c\b([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>))", re.DOTALL
)
_NUMBER = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
_TYPE = re.compile(rb"""\bt=["'](\w+)["']""")
_VALUE = re.compile(rb"<(?:\w+:)?(?:v|t)\b[^>]*>([^<]*)<")
_TEXTS = (b"s", b"str", b"inlineStr", b"d")


def lost_cells(path: Path, sheet: str, header: bool) -> list[str]:
    """What is to be said of errors, and of truth values in columns of numbers."""
    with zipfile.ZipFile(path) as archive:
        part = _part(archive, sheet)
        data = archive.read(part) if part in archive.namelist() else b""
    if not _SPECIAL.search(data):
        return []  # as most sheets; the others are looked at cell by cell
    errors: list[str] = []
    truths: dict[str, list[int]] = {}
    numbers, texts = set[str](), set[str]()
    top: int | None = None
    for column, row, kind, value in _cells(data):
        top = row if top is None else top
        if kind == b"e":
            errors.append(f"{column}{row} {html.unescape(value.decode(errors='replace'))}")
        elif header and row == top:
            continue
        elif kind == b"b":
            truths.setdefault(column, []).append(row)
        else:
            (texts if kind in _TEXTS else numbers).add(column)
    among = [
        f"{column}{row}"
        for column, rows in truths.items()
        if column in numbers and column not in texts
        for row in rows
    ]
    problems = []
    if errors:
        problems.append(f"cells with errors are read as empty: {some(errors)}")
    if among:
        problems.append(f"truth values among numbers are read as 1 and 0: {some(among)}")
    return problems


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """The name of the file that has the sheet; empty where the workbook does not tell."""
    try:
        book = archive.read("xl/workbook.xml").decode(errors="replace")
        links = archive.read("xl/_rels/workbook.xml.rels").decode(errors="replace")
    except KeyError:
        return ""
    for tag in _SHEET.findall(book):
        given = _attributes(tag)
        if given.get("name") == sheet:
            link = next((value for name, value in given.items() if name.endswith(":id")), "")
            for each in map(_attributes, _LINK.findall(links)):
                if each.get("Id") == link:
                    return posixpath.join("/xl", each.get("Target", "")).lstrip("/")
    return ""


def _attributes(tag: str) -> dict[str, str]:
    return {name: html.unescape(one or other) for name, one, other in _ATTRIBUTE.findall(tag)}


def _cells(data: bytes) -> Iterator[tuple[str, int, bytes, bytes]]:
    """The column, the row, the type and the value of each cell that has one.

    A row or a cell that does not say where it is, is behind the one before.
    """
    row = column = 0
    for found in _ROW_OR_CELL.finditer(data):
        is_row, of_row, of_cell, inside = found.groups()
        place = _NUMBER.search(of_row if is_row else of_cell)
        if is_row:
            row, column = int(place[2]) if place else row + 1, 0
            continue
        if place:
            row, column = int(place[2]), _index(place[1])
        else:
            column += 1
        value = _VALUE.search(inside or b"")
        if value:
            kind = _TYPE.search(of_cell)
            yield _letters(column), row, kind[1] if kind else b"n", value[1]


def _index(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
