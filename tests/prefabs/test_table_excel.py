"""Excel files: values that a sheet or a typed column cannot represent are reported."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")


def to_excel(tmp_path: Path, cells: list[Any]) -> tuple[list[Any], list[str], dict[str, Any]]:
    """Convert a column ``a`` to Excel; return its cells when read back, problems, and info."""
    path = tmp_path / "a.parquet"
    # The column "i" keeps rows that would otherwise be empty, and omitted when the sheet is read.
    frame = pl.DataFrame({"i": range(len(cells)), "a": cells})
    frame.write_parquet(path)
    (result,) = run_streaming(module.convert(make_call(tmp_path, tables=path), format="xlsx"))[0][
        "tables"
    ]
    again = module.info(make_call(tmp_path, table=tmp_path / "outputs/tables/a.xlsx"))
    assert not [each for each in again["problems"] if "several types" not in each]
    return [row["a"] for row in again["preview"]], result["problems"], again


def workbook(path: Path, rows: list[list[Any]], sheet: str = "A & B", column: int = 0) -> Path:
    """Write a workbook whose second sheet has ``rows``; strings with ``#`` are error values."""
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("first").write(0, 0, "x")
        second = book.add_worksheet(sheet)
        for number, row in enumerate(rows):
            for index, cell in enumerate(row, column):
                if isinstance(cell, str) and cell.startswith("#"):
                    second.write_formula(number, index, "=1/0", None, cell)
                else:
                    second.write(number, index, cell)
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
    description = module.info(make_call(tmp_path, table=path), sheet="A & B")
    assert description["problems"] == [
        f"sheet 'A & B': cells with errors are empty: "
        f"B3 {error} ({REASONS[error]}), C3 {error} ({REASONS[error]})"
    ]
    assert description["preview"][1] == {"i": 2, "n": None, "t": None}


def test_a_column_with_only_errors_keeps_its_rows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n"], ["#NAME?"], [1], [], ["#N/A"]])
    description = module.info(make_call(tmp_path, table=path), sheet="A & B")
    assert description["preview"] == [{"n": None}, {"n": 1}, {"n": None}]
    path = workbook(tmp_path / "b.xlsx", [["#NAME?", "b"], [1, 2]])
    description = module.info(make_call(tmp_path, table=path), sheet="A & B")
    assert description["preview"] == [{"#NAME?": 1, "b": 2}]
    assert "errors are used as names of columns: A1 #NAME? (" in description["problems"][0]


def test_the_number_of_reported_cells_is_bounded(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n"], *[["#N/A"]] * 1000, [1]])
    (problem,) = module.info(make_call(tmp_path, table=path), sheet="A & B")["problems"]
    assert problem.endswith("A6 #N/A (value not available) and 995 more")


def test_booleans_among_numbers_are_reported(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["n", "yes", "t"],
        [2.5, True, "x"],
        [True, False, True],
        *[[False, True, 1]] * 6,
    ]
    path = workbook(tmp_path / "a.xlsx", rows, column=26)
    description = module.info(make_call(tmp_path, table=path), sheet="A & B")
    booleans = "booleans among numbers are read as 1 and 0: AA3, AA4, AA5, AA6, AA7 and 2 more"
    booleans = f"sheet 'A & B': {booleans}"
    mixed = "AC (text AC2, boolean AC3, number AC4)"
    mixed = f"sheet 'A & B': columns of several types are read as text: {mixed}"
    assert description["problems"] == [booleans, mixed]
    assert description["preview"][1] == {"n": 1.0, "yes": False, "t": "true"}
    assert module.info(make_call(tmp_path, table=path))["problems"] == []  # the first sheet
    for header in (True, False):
        call = make_call(tmp_path, tables=path)
        result = run_streaming(module.convert(call, format="csv", sheet="A & B", header=header))[0]
        # Without a header, the column also contains the text of its first row.
        assert (booleans in result["tables"][0]["problems"]) == header


def test_cells_without_references(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["n", "m"], [1, 2], [True, "#N/A"]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet2.xml"]
    for reference in (b"A1", b"B1", b"A2", b"B2", b"A3", b"B3"):
        sheet = sheet.replace(b' r="%s"' % reference, b"")
    parts["xl/worksheets/sheet2.xml"] = sheet
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert module.info(make_call(tmp_path, table=path), sheet="A & B")["problems"] == [
        "sheet 'A & B': cells with errors are empty: B3 #N/A (value not available)",
        "sheet 'A & B': booleans among numbers are read as 1 and 0: A3",
    ]


@pytest.mark.parametrize("day", ["0001-01-01", "1899-12-31", "1900-01-01", "1900-02-28"])
def test_dates_that_excel_does_not_support_are_written_as_text(tmp_path: Path, day: str) -> None:
    first, last = datetime.date.fromisoformat(day), datetime.date(2025, 1, 31)
    cells, problems, _ = to_excel(tmp_path, [last, first, None])
    message = "written as text, because Excel supports dates from 1900-03-01 to 9999-12-31: row 2"
    assert problems == [f"a: {message}"]
    assert cells[1] == day and cells[0].startswith("2025-01-31")
    at = datetime.datetime.combine(first, datetime.time(1, 2, 3))
    cells, problems, _ = to_excel(tmp_path, [at])
    assert problems == [f"a: {message[:-1]}1"]
    assert datetime.datetime.fromisoformat(cells[0]) == at


def test_dates_that_excel_supports(tmp_path: Path) -> None:
    days = [datetime.date(1900, 3, 1), datetime.date(9999, 12, 31)]
    cells, problems, _ = to_excel(tmp_path, days)
    assert ([cell[:10] for cell in cells], problems) == (["1900-03-01", "9999-12-31"], [])


def test_fractions_that_excel_does_not_support_are_reported(tmp_path: Path) -> None:
    at = datetime.datetime(2025, 1, 31, 10, 0, 0, 123_456)
    message = (
        "a: written with milliseconds, because Excel does not support smaller fractions: row 2"
    )
    cells, problems, _ = to_excel(tmp_path, [at.replace(microsecond=123_000), at])
    assert problems == [message]
    assert cells == ["2025-01-31T10:00:00.123000"] * 2
    cells, problems, _ = to_excel(tmp_path, [datetime.time(1), at.time()])
    assert (cells, problems) == (["01:00:00", "10:00:00.123000"], [message])


def test_nan_and_infinity_are_empty_and_reported(tmp_path: Path) -> None:
    cells, problems, _ = to_excel(tmp_path, [1.5, float("nan"), float("-inf"), None])
    assert cells[:3] == [1.5, None, None]
    message = "a: written as empty cells, because Excel does not support NaN and infinity"
    assert problems == [f"{message}: row 2, row 3"]
    with zipfile.ZipFile(tmp_path / "outputs/tables/a.xlsx") as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_times_are_kept(tmp_path: Path) -> None:
    times = [datetime.time(1, 2, 3), None, datetime.time(), datetime.time(23, 59, 59, 999_000)]
    cells, problems, again = to_excel(tmp_path, times)
    assert (cells, problems) == (["01:02:03", None, "00:00:00", "23:59:59.999000"], [])
    assert again["columns"][1] == {"name": "a", "type": "Time"}
