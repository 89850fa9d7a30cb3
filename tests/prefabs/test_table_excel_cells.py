"""Types and values of cells in Excel files."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")

FORMATS = {"date": "yyyy-mm-dd", "time": "hh:mm", "at": "d.m.yy h:mm", "sum": "[h]:mm:ss"}


def workbook(path: Path, *rows: list[Any], **options: Any) -> Path:
    """Write a sheet; a cell ``(serial number, name or code of a format)`` is a formatted number."""
    with xlsxwriter.Workbook(path, options) as book:
        formats = {name: book.add_format({"num_format": code}) for name, code in FORMATS.items()}
        sheet = book.add_worksheet("S")
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                if isinstance(cell, tuple):
                    value, name = cell
                    custom = book.add_format({"num_format": name}) if name not in formats else None
                    sheet.write_number(number, column, value, custom or formats[name])
                elif isinstance(cell, str):
                    sheet.write_string(number, column, cell)
                else:
                    sheet.write(number, column, cell)
    return path


def edited(path: Path, change: Callable[[str], str]) -> Path:
    """Change the XML of the first sheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    before = parts[name].decode()
    parts[name] = change(before).encode()
    assert parts[name].decode() != before
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def info(tmp_path: Path, path: Path, **parameters: Any) -> dict[str, Any]:
    """Return the result of ``info``."""
    description: dict[str, Any] = module.info(make_call(tmp_path, table=path), **parameters)
    return description


@pytest.mark.parametrize(
    ("cells", "type_", "shown"),
    [
        # columns of one type
        ([(1 / 3, "time"), (0.999988425925926, "time")], "Time", ["08:00:00", "23:59:59"]),
        ([(45688, "date"), (61, "date")], "Date", ["2025-01-31", "1900-03-01"]),
        ([(1, "date"), (59, "date")], "Date", ["1900-01-01", "1900-02-28"]),
        ([(45688.5, "at")], "Datetime", ["2025-01-31T12:00:00"]),
        ([(45688, "date"), (45688.25, "at")], "Datetime", ["2025-01-31T00:00:00"]),
        ([(1.25, "sum"), (-0.25, "sum")], "Duration", [108_000.0, -21_600.0]),
        ([(0.25, "time"), (1.25, "time")], "Duration", [21_600.0, 108_000.0]),
        ([(-0.5, "time")], "Duration", [-43_200.0]),
        ([(45688, "[$-407]dd. mmm yyyy;@")], "Date", ["2025-01-31"]),
        ([(45688, '"Year" 0.0'), (2, "[Red]0.00")], "Int64", [45688, 2]),
        ([(0.5, "mm:ss.0")], "Time", ["12:00:00"]),
        ([(45688, "mmm")], "Date", ["2025-01-31"]),
        ([True, False], "Boolean", [True, False]),
        ([1, 2.5], "Float64", [1.0, 2.5]),
        ([1, " ", 2], "Int64", [1, 2]),
        ([2**53 - 1, -3], "Int64", [2**53 - 1, -3]),
        # in columns with text
        (["x", (1 / 3, "time")], "String", ["x", "08:00:00"]),
        (["x", (45688, "date")], "String", ["x", "2025-01-31"]),
        (["x", (45688.5, "at")], "String", ["x", "2025-01-31T12:00:00"]),
        (["x", (45688.500001157, "at")], "String", ["x", "2025-01-31T12:00:00.100"]),
        (["x", (1.25, "sum"), (-0.25, "time")], "String", ["x", "30:00:00", "-06:00:00"]),
        (["x", True, 1, 1.5, 0.1 + 0.2], "String", ["x", "true", "1", "1.5", "0.3"]),
        (["x", 1e300, -(2.0**50)], "String", ["x", "1e+300", "-1.12589990684262e+15"]),
        # of several types, none of them text
        ([(45688, "date"), (1 / 3, "time")], "String", ["2025-01-31", "08:00:00"]),
        ([(45688, "date"), 5], "String", ["2025-01-31", "5"]),
        ([(45688, "date"), (-1, "date")], "String", ["2025-01-31", "-1"]),
        ([True, (0.5, "time")], "String", ["true", "12:00:00"]),
        # text that looks like another type
        (["00420", "10115"], "String", ["00420", "10115"]),
        (["<&>", 'a"b'], "String", ["<&>", 'a"b']),
        (["<&>", 7], "String", ["<&>", "7"]),
    ],
)
def test_types_of_cells(tmp_path: Path, cells: list[Any], type_: str, shown: list[Any]) -> None:
    description = info(tmp_path, workbook(tmp_path / "a.xlsx", ["a"], *([cell] for cell in cells)))
    (column,) = description["columns"]
    assert column["type"].startswith(type_)
    assert [row["a"] for row in description["preview"]][: len(shown)] == shown
    mixed = type_ == "String" and not all(isinstance(cell, str) for cell in cells)
    assert any("columns of several types" in each for each in description["problems"]) == mixed


def test_times_in_csv_files(tmp_path: Path) -> None:
    cells = [(1 / 3, "time"), (45688, "date"), (45688.5, "at"), (1.25, "sum")]
    path = workbook(tmp_path / "a.xlsx", ["t", "d", "at", "s"], cells)
    run_streaming(module.convert(make_call(tmp_path, tables=path), format="csv"))
    written = (tmp_path / "outputs/tables/a.csv").read_text()
    assert written.splitlines()[1] == "08:00:00,2025-01-31,2025-01-31T12:00:00,P1DT6H"


def test_the_types_of_a_mixed_column_are_reported_with_cells(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["a", "b"], ["x", 1], [(1 / 3, "time"), 2], [5, 3])
    assert info(tmp_path, path)["problems"] == [
        "sheet 'S': columns of several types are read as text: A (text A2, time A3, number A4)"
    ]


def test_the_1904_date_system(tmp_path: Path) -> None:
    day = datetime.datetime(2025, 1, 31, 12)
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path, {"date_1904": True}) as book:
        sheet = book.add_worksheet("S")
        form = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_datetime(1, 0, day, form)
        sheet.write_datetime(1, 1, day, form)
        sheet.write(2, 1, "x")
        sheet.write(2, 0, (0.25), book.add_format({"num_format": "yyyy-mm-dd"}))
    description = info(tmp_path, path)
    assert description["preview"][0] == {"a": "2025-01-31T12:00:00", "b": "2025-01-31T12:00:00"}


def test_a_header_of_other_types(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [(45688, "date"), 5, True, "n"], [1, 2, 3, 4])
    description = info(tmp_path, path)
    assert description["preview"] == [{"2025-01-31": 1, "5": 2, "true": 3, "n": 4}]
    assert description["problems"] == []


def test_merged_and_hidden_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("S")
        sheet.write_row(0, 0, ["a", "b", "c"])
        sheet.merge_range("A2:B3", "both")
        sheet.write(1, 2, 1)
        sheet.write(2, 2, 2)
        sheet.write(3, 2, 3)
        sheet.set_row(2, None, None, {"hidden": True})
        hidden = book.add_worksheet("H")
        hidden.write(0, 0, "x")
        hidden.hide()
    description = info(tmp_path, path)
    assert description["sheets"] == ["S", "H"]
    # A merged range has its value in its first cell; hidden rows are read.
    assert description["preview"] == [
        {"a": "both", "c": 1},
        {"a": None, "c": 2},
        {"a": None, "c": 3},
    ] or (
        description["preview"][0] == {"a": "both", "b": None, "c": 1}
        and [row["c"] for row in description["preview"]] == [1, 2, 3]
    )
    assert info(tmp_path, path, sheet="H")["rows"] == 0


@pytest.mark.long
def test_empty_columns_and_a_sheet_with_the_maximum_width(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["a", None, None, "d"], [1, None, None, "x"], [2, None, None, 3]]
    description = info(tmp_path, workbook(tmp_path / "a.xlsx", *rows))
    assert description["preview"] == [{"a": 1, "d": "x"}, {"a": 2, "d": "3"}]
    path = tmp_path / "wide.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for column in range(16_384):
            sheet.write(0, column, f"c{column}")
            sheet.write(1, column, column)
        sheet.write(2, 16_383, "text")
    call = make_call(tmp_path, table=path)
    result = module.filter(call, columns=["c16383", "c0"])
    assert result["preview"] == [{"c16383": "16383", "c0": 0}, {"c16383": "text", "c0": None}]
    assert "XFD (number XFD2, text XFD3)" in result["problems"][0]


def test_formulas_without_a_saved_result(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("S")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, [1, 5])
        sheet.write_formula("A3", "=A2+1", None, 77)
        sheet.write(2, 1, 6)
        sheet.write_formula("A4", '=""', None, "")
        sheet.write(3, 1, 7)
    edited(path, lambda xml: xml.replace("<v>77</v>", ""))
    description = info(tmp_path, path)
    assert [row["a"] for row in description["preview"]] == [1, None, None]
    assert "formulas without a saved result are empty: A3" in description["problems"][0]
    assert description["columns"][0]["type"] == "Int64"


@pytest.mark.parametrize(
    ("cell", "shown", "problem"),
    [
        ('<c r="A2" t="inlineStr"><is><t>in line</t></is></c>', "in line", None),
        ('<c r="A2" t="inlineStr"><is><r><t>in</t></r><r><t>line</t></r></is></c>', "inline", None),
        ('<c r="A2" t="d"><v>2025-01-31T08:00:00</v></c>', "2025-01-31T08:00:00", None),
        ('<c r="A2" t="str"><f>x</f><v>a &lt; b</v></c>', "a < b", None),
        ('<c r="A2"><v>abc</v></c>', None, "A2 abc (not a number)"),
        ('<c r="A2"><v>1_000</v></c>', None, "A2 1_000 (not a number)"),
        ('<c r="A2"><v>nan</v></c>', None, "A2 nan (not a finite number)"),
        ('<c r="A2" t="zzz"><v>1</v></c>', None, "A2 1 (unknown type of cell 'zzz')"),
        ('<c r="A2" t="s"><v>999</v></c>', None, "A2 999 (no such shared string)"),
        ('<c r="A2" t="b"><v>7</v></c>', None, "A2 7 (not a boolean)"),
        ('<c r="A2" t="e"><v>#FIELD!</v></c>', None, "A2 #FIELD! (error value)"),
        ('<c r="A2" s="9999"><v>4</v></c>', 4, None),
        ("<c><v>4</v></c>", 4, None),
    ],
)
def test_cells_that_other_programs_write(
    tmp_path: Path, cell: str, shown: Any, problem: str | None
) -> None:
    path = workbook(tmp_path / "a.xlsx", ["a", "b"], [1, 5])
    edited(path, lambda xml: re.sub(r'<c r="A2">.*?</c>', cell, xml))
    description = info(tmp_path, path)
    assert description["preview"][0].get("a") == shown and description["preview"][0]["b"] == 5
    assert bool(description["problems"]) == (problem is not None)
    assert problem is None or problem in description["problems"][0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda xml: xml.replace("<sheetData>", "<sheetData></wrong>"),
        lambda xml: xml.replace("</c>", "</d>", 1),
        lambda xml: xml.replace("<c ", "<c <<", 1),
        lambda xml: xml[: xml.index("</row>")],
    ],
)
def test_a_damaged_sheet_does_not_fail_the_others(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        for name in ("A", "B"):
            book.add_worksheet(name).write_column(0, 0, ["n", 1])
    edited(path, damage)
    call = make_call(tmp_path, tables=path)
    result = run_streaming(module.convert(call, format="csv", sheet="*"))[0]
    assert [each["file"] is None for each in result["tables"]] == [True, False]
    assert "the sheet 'A' of a.xlsx is damaged: " in result["tables"][0]["problems"][0]


def test_similar_names_of_sheets_are_suggested(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["a"])
    with pytest.raises(ValueError, match=r"no sheet 's'; did you mean 'S'\? the sheets are: S$"):
        info(tmp_path, path, sheet="s")
