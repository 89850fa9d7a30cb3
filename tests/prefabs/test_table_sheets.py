"""Sheets of Excel files: selection, names of columns, and limits."""

from __future__ import annotations

import datetime
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")


def converted(
    tmp_path: Path, *paths: Path, format: str = "csv", **parameters: Any
) -> dict[str, Any]:
    """Convert tables, and return the result."""
    call = make_call(tmp_path, tables=paths)
    return run_streaming(module.convert(call, format=format, **parameters))[0]


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    """Write a workbook with the rows of each sheet."""
    with xlsxwriter.Workbook(path) as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                for column, cell in enumerate(row):
                    if isinstance(cell, datetime.date):
                        sheet.write_datetime(number, column, cell, day)
                    else:
                        sheet.write(number, column, cell)
    return path


def test_names_of_columns_are_made_unique_as_in_text_files(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["a", None, "A", "a", "b_1", 5], [1, 2, 3, 4, 5, 6]]
    path = workbook(tmp_path / "b.xlsx", S=rows)
    renamed = (
        "columns are renamed: 2 from '' to 'column_2', 3 from 'A' to 'A_2', 4 from 'a' to 'a_3'"
    )
    description = module.info(make_call(tmp_path, table=path))
    assert description["preview"] == [{"a": 1, "column_2": 2, "A_2": 3, "a_3": 4, "b_1": 5, "5": 6}]
    assert description["problems"] == [renamed]
    (mixed,) = converted(tmp_path, path, header=False)["tables"][0]["problems"]
    assert "columns of several types are read as text: A (text A1, number A2), " in mixed


def test_a_sheet_with_an_empty_column_and_rows_before_its_header(tmp_path: Path) -> None:
    rows: list[list[Any]] = [[], [], [None, "a", None, "a"], [None, 1, None, 2]]
    description = module.info(make_call(tmp_path, table=workbook(tmp_path / "b.xlsx", S=rows)))
    assert description["preview"] == [{"a": 1, "a_2": 2}]


def test_sheets(tmp_path: Path) -> None:
    day = datetime.date(2025, 1, 31)
    path = workbook(
        tmp_path / "b.xlsx", Eins=[["n", "day"], [1, day], [2.5, day]], Zwei=[["t"], ["=1+1 no"]]
    )
    description = module.info(make_call(tmp_path, table=path))
    assert description["sheets"] == ["Eins", "Zwei"]
    assert description["preview"][0] == {"n": 1.0, "day": "2025-01-31"}
    result = converted(tmp_path, path, sheet="*")
    assert [(each["sheet"], each["file"]) for each in result["tables"]] == [
        ("Eins", "b-Eins.csv"),
        ("Zwei", "b-Zwei.csv"),
    ]
    with pytest.raises(ValueError, match="has no sheet 'Drei'; the sheets are: Eins, Zwei"):
        converted(tmp_path, path, sheet="Drei")


def test_a_sheet_that_cannot_be_written_does_not_fail_the_others(tmp_path: Path) -> None:
    path = workbook(tmp_path / "b.xlsx", A=[["x"], [1]], B=[], C=[["y"], [2]])
    result = converted(tmp_path, path, sheet="*", format="xlsx")
    assert [(each["sheet"], each["file"]) for each in result["tables"]] == [
        ("A", "b-A.xlsx"),
        ("B", None),
        ("C", "b-C.xlsx"),
    ]
    assert (result["converted"], result["failed"]) == (2, 1)
    many = workbook(tmp_path / "m.xlsx", **{f"S{number}": [["x"]] for number in range(101)})
    with pytest.raises(ValueError, match=r"m\.xlsx has 101 sheets; the limit is 100"):
        converted(tmp_path, many, sheet="*")


def test_a_sheet_with_a_distant_cell_is_rejected_before_it_is_loaded(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "far.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "a")
        sheet.write(1_048_575, 16_383, "z")
    with pytest.raises(ValueError, match=r"extends to row 1,048,576 and column 16,384"):
        converted(tmp_path, tmp_path / "far.xlsx")


def test_a_workbook_that_expands_to_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "b.xlsx", A=[["a"]])
    converted(tmp_path, path)
    monkeypatch.setattr(sys.modules["table_excel"], "_MAX_BYTES", 10 << 20)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet9.xml", bytes(10 << 20))
    with pytest.raises(ValueError, match=r"^b\.xlsx expands to 10,\d+,\d+ bytes"):
        converted(tmp_path, path)
