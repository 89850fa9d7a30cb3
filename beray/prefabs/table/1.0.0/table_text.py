"""CSV and its relatives (RFC 4180, and what programs make of it)."""

from __future__ import annotations

import codecs
import csv
import io
from itertools import islice
from pathlib import Path

import polars as pl

from table_names import Unreadable, unique

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 50
_LONGEST_CELL = 10_000_000
_MOST_COLUMNS = 20_000


def read_text(path: Path, delimiter: str, header: bool) -> tuple[pl.DataFrame, list[str], bool]:
    """The table, all of its cells texts; what is wrong with it; whether tabs separate.

    Raises:
        Unreadable: with the reason.
    """
    text, problems = _decoded(path)
    if not text.strip():
        raise Unreadable(f"{path.name} is empty")
    separator = delimiter or _separator(text, path)
    if separator in '"\r\n' or not separator.isascii():
        raise Unreadable(f"delimiter: {separator!r} cannot separate cells")
    try:
        # Whatever is no even table with closed quotes raises, and is read with more patience.
        frame = pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            infer_schema=False,
            has_header=header,
            extra_columns="raise",
            glob=False,
        )
    except pl.exceptions.PolarsError:
        frame = _patiently(path, text, separator, header, problems)
    if frame.width > _MOST_COLUMNS:
        raise Unreadable(f"{path.name} has {frame.width:,} columns; {_MOST_COLUMNS:,} are read")
    if not header:
        frame.columns = unique([""] * frame.width)
    names = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator), 1))
    if header and names and len(names[0]) == frame.width:
        frame.columns = unique(names[0])  # as they stand there, not as Polars tells them apart
    return frame, problems, separator == "\t"


def _decoded(path: Path) -> tuple[str, list[str]]:
    data = path.read_bytes()
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return _by(path, data[len(mark) :], encoding)
    if b"\0" in data[: 1 << 16]:
        raise Unreadable(f"{path.name} is not text")
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        pass  # an older encoding, most likely
    from charset_normalizer import from_bytes

    found = from_bytes(data[: 1 << 18])
    best = found.best()
    if best is None:
        raise Unreadable(f"{path.name} is not text")
    equal = [one for one in found if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    common = any("cp1252" in one.could_be_from_charset for one in equal)
    return _by(path, data, "cp1252" if common else best.encoding)


def _by(path: Path, data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    damaged = text.count("\ufffd")
    problem = f"{damaged:,} characters of {path.name} cannot be read as {encoding}"
    return text, [problem] if damaged else []


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
            if (score := even + min(widths[0], 100) / 1000) > best[0]:
                best = (score, candidate)
    return best[1]


def _patiently(
    path: Path, text: str, separator: str, header: bool, problems: list[str]
) -> pl.DataFrame:
    """Rows that are too long get columns of their own; those that are too short, empty cells."""
    csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row
        ]
    except csv.Error as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from None
    width = max(map(len, rows))
    if width * len(rows) > 50_000_000 or width > _MOST_COLUMNS:
        raise Unreadable(f"{path.name} has a row of {width:,} cells, too many for its size")
    names = rows.pop(0) if header else []
    longer = sum(len(row) > len(names) for row in rows) if header else 0
    if longer:
        problems.append(f"{longer:,} rows have more than the {len(names)} cells of the header")
    names += [""] * (width - len(names))
    cells = {
        name: [row[place] or None if place < len(row) else None for row in rows]
        for place, name in enumerate(unique(names))
    }
    return pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
