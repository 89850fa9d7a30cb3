"""Functions of the prefab ``table``: ``convert``, ``info``, ``filter``, ``summarise``, ``plot``."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from beray.prefab import Call, Progress, all_failed

# By default, Polars starts a thread for each processor, which may exceed the limit of a call.
os.environ.setdefault("POLARS_MAX_THREADS", "4")

import polars as pl

from table_columns import TableInputError
from table_conditions import (
    sort_order,
    text_comparison_messages,
    text_sort_messages,
    where_expression,
)
from table_json import preview_columns, preview_rows
from table_reading import ReadOptions, Table, list_sheets, open_table
from table_writing import Format, TableNames, write_table

_SUMMARY_ROWS = 200
_MAX_SHEETS = 100
OptionalFormat = Literal["", "csv", "tsv", "parquet", "xlsx"]


def convert(
    call: Call,
    *,
    format: Format,
    sheet: str = "",
    delimiter: str = "",
    header: bool = True,
    escape_formulas: bool = False,
) -> Generator[Progress | dict[str, Any], None, dict[str, Any]]:
    """Convert tables to another format.

    ``prefab.toml`` documents the parameters and results of all functions.

    Yields:
        The result of each table after its conversion.

    Raises:
        TableInputError: The call has no file, or no file could be converted.
    """
    paths = list(call.files.get("tables", ()))
    if not paths:
        raise TableInputError("tables: at least one file is required")
    names = TableNames()
    results: list[dict[str, Any]] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            sheets = _all_sheets(path) if sheet == "*" else [sheet]
        except TableInputError as error:
            results.append(_failed_table(path, None, str(error)))
            yield results[-1]
            continue
        for sheet_name in sheets:
            stem = f"{path.stem}-{sheet_name}" if sheet == "*" and sheet_name else path.stem
            try:
                table = open_table(path, ReadOptions(sheet_name, delimiter, header))
                # Text formats keep the original notation of each cell.
                frame = table.raw if format in ("csv", "tsv") else table.typed()
                file = names.unique_name(stem, format)
                output = call.output("tables", file)
                problems = table.problems + write_table(
                    frame, output, format, header=table.header, escape=escape_formulas
                )
                results.append(_converted_table(table, file, frame, problems))
            except TableInputError as error:
                results.append(_failed_table(path, sheet_name or None, str(error)))
            yield results[-1]
    failed = [each for each in results if each["file"] is None]
    if len(failed) == len(results):
        raise TableInputError(all_failed([each["problems"][0] for each in failed]))
    yield Progress(1.0)
    return {"tables": results, "converted": len(results) - len(failed), "failed": len(failed)}


def info(call: Call, *, sheet: str = "", preview: int = 10) -> dict[str, Any]:
    """Describe a table.

    Raises:
        TableInputError: The table cannot be read.
    """
    path = call.file("table")
    table = open_table(path, ReadOptions(sheet=sheet))
    frame = table.typed()
    columns = [{"name": name, "type": str(kind)} for name, kind in frame.schema.items()]
    return {
        "name": path.name,
        "format": table.format,
        "rows": frame.height,
        "columns": columns[: len(preview_columns(frame))],
        "sheets": list_sheets(path),
        "preview": preview_rows(frame, preview),
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
    format: OptionalFormat = "",
    sheet: str = "",
    preview: int = 10,
) -> dict[str, Any]:
    """Select rows by conditions, and columns.

    Raises:
        TableInputError: The table cannot be read, a column does not exist, or a condition is
            invalid for its column.
    """
    path = call.file("table")
    table = open_table(path, ReadOptions(sheet=sheet))
    typed = table.typed()
    selected = list(dict.fromkeys(columns)) or typed.columns
    for column in selected:
        table.require(column)
    target: Format = format or table.format
    # Conditions apply to typed values. Text formats keep the original notation of each cell.
    source = table.raw if target in ("csv", "tsv") else typed
    rows = typed.select(where_expression(typed, where, match).alias("selected")).to_series()
    messages = text_comparison_messages(typed, where)
    source, typed = source.filter(rows), typed.filter(rows)
    if sort:
        indices = sort_order(typed, sort)
        messages += text_sort_messages(typed, sort)
        source, typed = source[indices], typed[indices]
    source, typed = source.select(selected), typed.select(selected)
    if distinct:
        first = typed.to_struct("row").is_first_distinct()
        source, typed = source.filter(first), typed.filter(first)
    if limit:
        source, typed = source.head(limit), typed.head(limit)
    file = TableNames().unique_name(path.stem, target)
    losses = write_table(source, call.output("table", file), target, header=table.header)
    return {
        "file": file,
        "rows": source.height,
        "rows_before": table.raw.height,
        "columns": preview_columns(source),
        "preview": preview_rows(typed, preview),
        "problems": table.problems + messages + losses,
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
    """Summarise columns, or groups of rows.

    Raises:
        TableInputError: The table cannot be read, a column does not exist, or a measure is
            invalid for its column.
    """
    from table_summary import summarise_columns, summarise_groups

    path = call.file("table")
    table = open_table(path, ReadOptions(sheet=sheet))
    for column in (*group_by, *columns):
        table.require(column)
    typed = table.typed()
    if group_by:
        summary = summarise_groups(typed, group_by, columns, measures)
    else:
        summary = summarise_columns(typed, columns or typed.columns)
    file = TableNames().unique_name(f"{path.stem}-summary", format)
    problems = table.problems + write_table(summary, call.output("summary", file), format)
    return {
        "file": file,
        "rows": summary.height,
        "rows_before": typed.height,
        "summary": preview_rows(summary, _SUMMARY_ROWS),
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
    """Draw columns as a PNG image.

    Raises:
        TableInputError: The table cannot be read, or a column does not exist or cannot be drawn.
    """
    from table_plots import PlotOptions, draw_plot

    path = call.file("table")
    table = open_table(path, ReadOptions(sheet=sheet))
    for column in (*([x] if x else []), *y):
        table.require(column)
    options = PlotOptions(kind, x, list(y), combine, bins, logarithmic, title, width, height)
    file = TableNames().unique_name(f"{path.stem}-{kind}", "png")
    points, problems = draw_plot(table.typed(), options, call.output("picture", file))
    return {"file": file, "points": points, "problems": table.problems + problems}


def _converted_table(
    table: Table, file: str, frame: pl.DataFrame, problems: list[str]
) -> dict[str, Any]:
    return {
        "name": table.name,
        "sheet": table.sheet,
        "file": file,
        "rows": frame.height,
        "columns": preview_columns(frame),
        "problems": problems,
    }


def _all_sheets(path: Path) -> list[str]:
    sheets = list_sheets(path)
    if len(sheets) > _MAX_SHEETS:
        raise TableInputError(f"{path.name} has {len(sheets):,} sheets; the limit is {_MAX_SHEETS}")
    return sheets or [""]


def _failed_table(path: Path, sheet: str | None, problem: str) -> dict[str, Any]:
    return {
        "name": path.name,
        "sheet": sheet,
        "file": None,
        "rows": 0,
        "columns": [],
        "problems": [problem],
    }
