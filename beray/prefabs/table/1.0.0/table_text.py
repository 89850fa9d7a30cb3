"""CSV and its relatives (RFC 4180, and what programs make of it)."""

from __future__ import annotations

import csv
import io
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, dropwhile, islice
from pathlib import Path

import polars as pl

from table_encoding import decoded
from table_names import BadInput, renamed, unique

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 50
_LONGEST_CELL = 10_000_000
_MOST_COLUMNS = 20_000
_OLD_NEWLINE = re.compile(r"\r(?!\n)")
_END = "end"
_HINT = re.compile(r'"?sep=(\\t|[^\w\r\n"])"?[ \t,;|]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A table, all of its cells texts."""

    frame: pl.DataFrame
    problems: list[str]
    tabs: bool
    header: dict[str, str]
    """By the name of a column what the file has for it."""


def read_text(path: Path, delimiter: str, header: bool) -> Text:
    """The table in a file of text.

    Raises:
        BadInput: with the reason.
    """
    text, problems = decoded(path)
    hint, text = _without_hint(text)
    if not text.strip():
        raise BadInput(f"{path.name} is empty")
    if hint and delimiter and hint != delimiter:
        problems.append(f"the first line sets the separator {hint!r}; {delimiter!r} is used")
    separator = delimiter or hint or _separator(text, path)
    if separator in '"\r\n' or not separator.isascii():
        raise BadInput(f"delimiter: {separator!r} cannot separate cells")
    csv.field_size_limit(_LONGEST_CELL)
    try:
        first, more = _first_row(text, separator)
        # Polars takes a carriage return for none, and a header's open quote for a closed one.
        frame = None if not more or _OLD_NEWLINE.search(text) else _at_once(text, separator, header)
        if frame is None:
            frame = _patiently(path, text, separator, header, problems)
        elif frame.width > 1 and frame[:, -1].null_count():  # else no row is too short
            rows = dropwhile(operator.not_, _rows(text, separator, problems))
            problems += _shorter(rows, frame.width, header)
    except csv.Error as error:
        raise BadInput(f"{path.name} cannot be read: {error}") from None
    if frame.width > _MOST_COLUMNS:
        raise BadInput(f"{path.name} has {frame.width:,} columns; {_MOST_COLUMNS:,} are read")
    if not header:
        frame.columns = unique([""] * frame.width)
    if header and len(first) == frame.width:
        frame.columns = unique(first)  # as they stand there, not as Polars tells them apart
    written = dict(zip(frame.columns, first, strict=False)) if header else {}
    problems += renamed(list(written.values()), list(written))
    return Text(frame, problems, separator == "\t", written)


def _without_hint(text: str) -> tuple[str, str]:
    """Return the separator that a first line such as ``sep=;`` sets, and the text after it."""
    found = _HINT.match(text)
    if found is None:
        return "", text
    return "\t" if found[1] == "\\t" else found[1], text[found.end() :]


def _separator(text: str, path: Path) -> str:
    """What cuts the first rows into the same number of cells, as many as it can."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    sample = text[:_SAMPLE_CHARACTERS]
    best = (0.0, ",")
    for candidate in _DELIMITERS:
        try:
            reader = csv.reader(io.StringIO(sample, newline=""), delimiter=candidate)
            widths = [len(row) for row in islice(reader, _SAMPLE_ROWS) if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            even = sum(width == widths[0] for width in widths) / len(widths)
            score = even + min(widths[0], 100) / 1000
            if candidate != "," and even == 1 and len(widths) > 1:
                score += 1  # commas are decimal commas, or part of texts
            if score > best[0]:
                best = (score, candidate)
    return best[1]


def _first_row(text: str, separator: str) -> tuple[list[str], bool]:
    """The first row that is not empty, and whether there is more after it."""
    lines = io.StringIO(text, newline="")
    row = next(filter(None, csv.reader(lines, delimiter=separator)), [])
    return row, lines.tell() < len(text)


def _at_once(text: str, separator: str, header: bool) -> pl.DataFrame | None:
    """Whatever is no even table with closed quotes is None, to be read with more patience."""
    try:
        return pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            infer_schema=False,
            has_header=header,
            extra_columns="raise",
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _rows(text: str, separator: str, problems: list[str]) -> Iterator[list[str]]:
    """The rows; a quote that is open at the end is said when they are through."""
    # A line put after the last is a row of its own, unless a quote is open.
    lines = chain(io.StringIO(text, newline=""), ["\n", _END])
    reader = csv.reader(lines, delimiter=separator)
    held: list[list[str]] = []
    begin = after = 1
    for row in reader:
        begin, after = after, reader.line_num + 1
        held.append(row)
        if len(held) > 2:
            yield held.pop(0)
    if held[-1] == [_END]:
        return
    problems.append(f"a quote that is not closed, from line {begin:,} on")
    held[-1][-1] = held[-1][-1].removesuffix("\n" + _END)
    yield from held


def _shorter(rows: Iterable[list[str]], width: int, header: bool) -> list[str]:
    short = sum(len(row) < width for row in rows)
    of = "header" if header else "longest row"
    return [f"{short:,} rows have fewer than the {width:,} cells of the {of}"] if short else []


def _patiently(
    path: Path, text: str, separator: str, header: bool, problems: list[str]
) -> pl.DataFrame:
    """Rows that are too long get columns of their own; those that are too short, empty cells."""
    everything = list(_rows(text, separator, problems))
    rows = [row for row in everything if row]
    if empty := len(everything) - len(rows):
        problems.append(f"{empty:,} empty lines are left out")
    width = max(map(len, rows))
    if width * len(rows) > 50_000_000 or width > _MOST_COLUMNS:
        raise BadInput(f"{path.name} has a row of {width:,} cells, too many for its size")
    names = rows.pop(0) if header else []
    longer = sum(len(row) > len(names) for row in rows) if header else 0
    if longer:
        problems.append(f"{longer:,} rows have more than the {len(names)} cells of the header")
    problems += _shorter(rows, len(names) if header else width, header)
    names += [""] * (width - len(names))
    cells = {
        name: [row[place] or None if place < len(row) else None for row in rows]
        for place, name in enumerate(unique(names))
    }
    return pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
