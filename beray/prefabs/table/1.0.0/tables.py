"""Tables: ``convert``, ``info``, ``filter``, ``summarise`` and ``plot``."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from beray.prefab import Call, Progress, all_failed

# Polars makes a thread for each processor otherwise, and a call may not have so many.
os.environ.setdefault("POLARS_MAX_THREADS", "4")

import polars as pl

from table_conditions import compared_as_text, met, order, sorted_as_text
from table_names import BadInput
from table_reading import Options, Table, opened, sheets_of
from table_values import shown_columns, shown_rows
from table_writing import Format, Names, write

_SUMMARY_ROWS = 200
_MOST_SHEETS = 100
Text = Literal["", "csv", "tsv", "parquet", "xlsx"]


def convert(
    call: Call,
    *,
    format: Format,
    sheet: str = "",
    delimiter: str = "",
    header: bool = True,
    escape_formulas: bool = False,
) -> Generator[Progress | dict[str, Any], None, dict[str, Any]]:
    """Tables in another format.

    Yields:
        what is told of each table, as soon as it is converted.

    Raises:
        ValueError: there is no file, or none that could be converted.
    """
    paths = list(call.files.get("tables", ()))
    if not paths:
        raise BadInput("tables: at least one file is needed")
    names = Names()
    told: list[dict[str, Any]] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            sheets = _all_sheets(path) if sheet == "*" else [sheet]
        except BadInput as error:
            told.append(_lost(path, None, str(error)))
            yield told[-1]
            continue
        for one in sheets:
            stem = f"{path.stem}-{one}" if sheet == "*" and one else path.stem
            try:
                table = opened(path, Options(one, delimiter, header))
                # Text stays as it was written.
                frame = table.raw if format in ("csv", "tsv") else table.typed()
                file = names.take(stem, format)
                written = call.output("tables", file)
                problems = table.problems + write(
                    frame, written, format, header=table.header, escape=escape_formulas
                )
                told.append(_told(table, file, frame, problems))
            except BadInput as error:
                told.append(_lost(path, one or None, str(error)))
            yield told[-1]
    failed = [each for each in told if each["file"] is None]
    if len(failed) == len(told):
        raise BadInput(all_failed([each["problems"][0] for each in failed]))
    yield Progress(1.0)
    return {"tables": told, "converted": len(told) - len(failed), "failed": len(failed)}


def info(call: Call, *, sheet: str = "", preview: int = 10) -> dict[str, Any]:
    """What is in a table.

    Raises:
        ValueError: it cannot be read.
    """
    path = call.file("table")
    table = opened(path, Options(sheet=sheet))
    frame = table.typed()
    columns = [{"name": name, "type": str(kind)} for name, kind in frame.schema.items()]
    return {
        "name": path.name,
        "format": table.format,
        "rows": frame.height,
        "columns": columns[: len(shown_columns(frame))],
        "sheets": sheets_of(path),
        "preview": shown_rows(frame, preview),
        "problems": table.problems,
    }


def filter(
    call: Call,
    *,
    where: Sequence[Mapping[str, Any]] = (),
    match: Literal["all", "any"] = "all",
    columns: Sequence[str] = (),
    sort: Sequence[str] = (),
    distinct: bool = False,
    limit: int = 0,
    format: Text = "",
    sheet: str = "",
    preview: int = 10,
) -> dict[str, Any]:
    """The rows that meet conditions.

    Raises:
        ValueError: the table cannot be read, or a condition does not fit it.
    """
    path = call.file("table")
    table = opened(path, Options(sheet=sheet))
    typed = table.typed()
    kept = list(dict.fromkeys(columns)) or typed.columns
    for column in kept:
        table.require(column)
    target: Format = format or table.format
    # What is compared are values; what is written is what stood there, digit for digit.
    source = table.raw if target in ("csv", "tsv") else typed
    rows = typed.select(met(typed, where, match).alias("kept")).to_series()
    as_text = compared_as_text(typed, where)
    source, typed = source.filter(rows), typed.filter(rows)
    if sort:
        places = order(typed, sort)
        as_text += sorted_as_text(typed, sort)
        source, typed = source[places], typed[places]
    source, typed = source.select(kept), typed.select(kept)
    if distinct:
        first = typed.to_struct("row").is_first_distinct()
        source, typed = source.filter(first), typed.filter(first)
    if limit:
        source, typed = source.head(limit), typed.head(limit)
    file = Names().take(path.stem, target)
    written = write(source, call.output("table", file), target, header=table.header)
    return {
        "file": file,
        "rows": source.height,
        "rows_before": table.raw.height,
        "columns": shown_columns(source),
        "preview": shown_rows(typed, preview),
        "problems": table.problems + as_text + written,
    }


def summarise(
    call: Call,
    *,
    group_by: Sequence[str] = (),
    columns: Sequence[str] = (),
    measures: Sequence[str] = ("sum", "mean"),
    format: Format = "csv",
    sheet: str = "",
) -> dict[str, Any]:
    """What columns, or groups of rows, have in them.

    Raises:
        ValueError: the table cannot be read, or has no such columns.
    """
    from table_summary import of_columns, of_groups

    path = call.file("table")
    table = opened(path, Options(sheet=sheet))
    for column in (*group_by, *columns):
        table.require(column)
    typed = table.typed()
    if group_by:
        summary = of_groups(typed, group_by, columns, measures)
    else:
        summary = of_columns(typed, columns or typed.columns)
    file = Names().take(f"{path.stem}-summary", format)
    problems = table.problems + write(summary, call.output("summary", file), format)
    return {
        "file": file,
        "rows": summary.height,
        "rows_before": typed.height,
        "summary": shown_rows(summary, _SUMMARY_ROWS),
        "problems": problems,
    }


def plot(
    call: Call,
    *,
    kind: Literal["line", "bar", "scatter", "histogram"] = "line",
    x: str = "",
    y: Sequence[str] = (),
    combine: Literal["none", "sum", "mean", "min", "max", "count"] = "none",
    bins: int = 30,
    logarithmic: bool = False,
    title: str = "",
    width: int = 1200,
    height: int = 700,
    sheet: str = "",
) -> dict[str, Any]:
    """A picture of columns.

    Raises:
        ValueError: the table cannot be read, or its columns cannot be drawn so.
    """
    from table_plots import Drawing, draw

    path = call.file("table")
    table = opened(path, Options(sheet=sheet))
    for column in (*([x] if x else []), *y):
        table.require(column)
    drawing = Drawing(kind, x, list(y), combine, bins, logarithmic, title, width, height)
    file = Names().take(f"{path.stem}-{kind}", "png")
    points, problems = draw(table.typed(), drawing, call.output("picture", file))
    return {"file": file, "points": points, "problems": table.problems + problems}


def _told(table: Table, file: str, frame: pl.DataFrame, problems: list[str]) -> dict[str, Any]:
    return {
        "name": table.name,
        "sheet": table.sheet,
        "file": file,
        "rows": frame.height,
        "columns": shown_columns(frame),
        "problems": problems,
    }


def _all_sheets(path: Path) -> list[str]:
    sheets = sheets_of(path)
    if len(sheets) > _MOST_SHEETS:
        raise BadInput(f"{path.name} has {len(sheets):,} sheets; {_MOST_SHEETS} are converted")
    return sheets or [""]


def _lost(path: Path, sheet: str | None, problem: str) -> dict[str, Any]:
    return {
        "name": path.name,
        "sheet": sheet,
        "file": None,
        "rows": 0,
        "columns": [],
        "problems": [problem],
    }
