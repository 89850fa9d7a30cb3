"""Excel files: what a sheet and a column of one type cannot hold is said, with its place."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter

from tests.prefabs.included import call_with, finished, prefab

module = prefab("table")


def to_excel(tmp_path: Path, cells: list[Any]) -> tuple[list[Any], list[str], dict[str, Any]]:
    """What became of a column ``a`` of a Parquet file: its cells, and what was said."""
    path = tmp_path / "a.parquet"
    # Rows without any cell are left out when a sheet is read.
    frame = pl.DataFrame({"i": range(len(cells)), "a": cells})
    frame.write_parquet(path)
    (told,) = finished(module.convert(call_with(tmp_path, tables=path), format="xlsx"))[0]["tables"]
    again = module.info(call_with(tmp_path, table=tmp_path / "outputs/tables/a.xlsx"))
    assert not [each for each in again["problems"] if "several types" not in each]
    return [row["a"] for row in again["preview"]], told["problems"], again


def workbook(path: Path, rows: list[list[Any]], sheet: str = "A & B", column: int = 0) -> Path:
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("first").write(0, 0, "x")
        made = book.add_worksheet(sheet)
        for number, row in enumerate(rows):
            for place, cell in enumerate(row, column):
                if isinstance(cell, str) and cell.startswith("#"):
                    made.write_formula(number, place, "=1/0", None, cell)
                else:
                    made.write(number, place, cell)
    return path


REASONS = {
    "#DIV/0!": "division by zero",
    "#N/A": "value not available",
    "#NAME?": "unknown name in the formula",
    "#NULL!": "ranges without a common cell",
    "#NUM!": "invalid number",
    "#REF!": "reference to a cell that does not exist",
    "#VALUE!": "value of a wrong type",
}


@pytest.mark.parametrize("error", REASONS)
def test_cells_with_errors_are_empty_and_reported(tmp_path: Path, error: str) -> None:
    path = workbook(
        tmp_path / "a.xlsx", [["i", "n", "t"], [1, 1, "x"], [2, error, error], [3, 2, "y"]]
    )
    said = module.info(call_with(tmp_path, table=path), sheet="A & B")
    assert said["problems"] == [
        f"sheet 'A & B': cells with errors are empty: "
        f"B3 {error} ({REASONS[error]}), C3 {error} ({REASONS[error]})"
    ]
    assert said["preview"][1] == {"i": 2, "n": None, "t": None}


def test_a_column_of_nothing_but_errors_keeps_its_rows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n"], ["#NAME?"], [1], [], ["#N/A"]])
    said = module.info(call_with(tmp_path, table=path), sheet="A & B")
    assert said["preview"] == [{"n": None}, {"n": 1}, {"n": None}]
    path = workbook(tmp_path / "b.xlsx", [["#NAME?", "b"], [1, 2]])
    said = module.info(call_with(tmp_path, table=path), sheet="A & B")
    assert said["preview"] == [{"#NAME?": 1, "b": 2}]
    assert "errors are used as names of columns: A1 #NAME? (" in said["problems"][0]


def test_the_number_of_reported_cells_is_bounded(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n"], *[["#N/A"]] * 1000, [1]])
    (problem,) = module.info(call_with(tmp_path, table=path), sheet="A & B")["problems"]
    assert problem.endswith("A6 #N/A (value not available) and 995 more")


def test_truth_values_among_numbers_are_said(tmp_path: Path) -> None:
    rows = [
        ["n", "yes", "t"],
        [2.5, True, "x"],
        [True, False, True],
        *[[False, True, 1]] * 6,
    ]
    path = workbook(tmp_path / "a.xlsx", rows, column=26)
    said = module.info(call_with(tmp_path, table=path), sheet="A & B")
    told = "booleans among numbers are read as 1 and 0: AA3, AA4, AA5, AA6, AA7 and 2 more"
    told = f"sheet 'A & B': {told}"
    mixed = "AC (text AC2, boolean AC3, number AC4)"
    mixed = f"sheet 'A & B': columns of several types are read as text: {mixed}"
    assert said["problems"] == [told, mixed]
    assert said["preview"][1] == {"n": 1.0, "yes": False, "t": "true"}
    assert module.info(call_with(tmp_path, table=path))["problems"] == []  # of another sheet
    for header in (True, False):
        call = call_with(tmp_path, tables=path)
        result = finished(module.convert(call, format="csv", sheet="A & B", header=header))[0]
        assert (told in result["tables"][0]["problems"]) == header  # else it has a text, too


def test_cells_that_do_not_say_where_they_are(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n", "m"], [1, 2], [True, "#N/A"]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet2.xml"]
    for place in (b"A1", b"B1", b"A2", b"B2", b"A3", b"B3"):
        sheet = sheet.replace(b' r="%s"' % place, b"")
    parts["xl/worksheets/sheet2.xml"] = sheet
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert module.info(call_with(tmp_path, table=path), sheet="A & B")["problems"] == [
        "sheet 'A & B': cells with errors are empty: B3 #N/A (value not available)",
        "sheet 'A & B': booleans among numbers are read as 1 and 0: A3",
    ]


@pytest.mark.parametrize("day", ["0001-01-01", "1899-12-31", "1900-01-01", "1900-02-28"])
def test_days_that_excel_does_not_have_are_written_as_text(tmp_path: Path, day: str) -> None:
    first, last = datetime.date.fromisoformat(day), datetime.date(2025, 1, 31)
    cells, problems, _ = to_excel(tmp_path, [last, first, None])
    said = "written as text, for Excel counts days from 1900-03-01 to 9999-12-31: row 2"
    assert problems == [f"a: {said}"]
    assert cells[1] == day and cells[0].startswith("2025-01-31")
    at = datetime.datetime.combine(first, datetime.time(1, 2, 3))
    cells, problems, _ = to_excel(tmp_path, [at])
    assert problems == [f"a: {said[:-1]}1"]
    assert datetime.datetime.fromisoformat(cells[0]) == at


def test_days_that_excel_has(tmp_path: Path) -> None:
    days = [datetime.date(1900, 3, 1), datetime.date(9999, 12, 31)]
    cells, problems, _ = to_excel(tmp_path, days)
    assert ([cell[:10] for cell in cells], problems) == (["1900-03-01", "9999-12-31"], [])


def test_fractions_that_excel_does_not_keep_are_said(tmp_path: Path) -> None:
    at = datetime.datetime(2025, 1, 31, 10, 0, 0, 123_456)
    said = "a: written without what is below a millisecond, which Excel does not keep: row 2"
    cells, problems, _ = to_excel(tmp_path, [at.replace(microsecond=123_000), at])
    assert problems == [said]
    assert cells == ["2025-01-31T10:00:00.123000"] * 2
    cells, problems, _ = to_excel(tmp_path, [datetime.time(1), at.time()])
    assert (cells, problems) == (["01:00:00", "10:00:00.123000"], [said])


def test_numbers_that_are_none_are_empty_and_said(tmp_path: Path) -> None:
    cells, problems, _ = to_excel(tmp_path, [1.5, float("nan"), float("-inf"), None])
    assert cells[:3] == [1.5, None, None]
    said = "a: written as empty, for Excel has no NaN and inf: row 2, row 3"
    assert problems == [said]
    with zipfile.ZipFile(tmp_path / "outputs/tables/a.xlsx") as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_times_of_day_there_and_back(tmp_path: Path) -> None:
    times = [datetime.time(1, 2, 3), None, datetime.time(), datetime.time(23, 59, 59, 999_000)]
    cells, problems, again = to_excel(tmp_path, times)
    assert (cells, problems) == (["01:02:03", None, "00:00:00", "23:59:59.999000"], [])
    assert again["columns"][1] == {"name": "a", "type": "Time"}
