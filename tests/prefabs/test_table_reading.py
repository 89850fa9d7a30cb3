"""Reading of tables: encodings, separators, types and irregular rows."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")


def converted(
    tmp_path: Path, *paths: Path, format: str = "csv", **parameters: Any
) -> dict[str, Any]:
    """Convert tables, and return the result."""
    call = make_call(tmp_path, tables=paths)
    return run_streaming(module.convert(call, format=format, **parameters))[0]


def text_of(
    tmp_path: Path, data: bytes | str, name: str = "a.csv", **parameters: Any
) -> tuple[str, dict[str, Any]]:
    """Convert a file with the content ``data`` to CSV; return the CSV and the result."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    (table,) = converted(tmp_path, path, **parameters)["tables"]
    return (tmp_path / "outputs/tables" / table["file"]).read_text("utf-8"), table


def info(
    tmp_path: Path, data: bytes | str, name: str = "a.csv", **parameters: Any
) -> dict[str, Any]:
    """Return the result of ``info`` for a file with the content ``data``."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    found: dict[str, Any] = module.info(make_call(tmp_path, table=path), **parameters)
    return found


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("a,b\n1,ü\n", "a.csv"),
        ("a;b\n1;ü\n", "a.csv"),
        ("a\tb\n1\tü\n", "a.tsv"),
        ("a|b\r\n1|ü\r\n", "a.txt"),
        (codecs.BOM_UTF8 + "a,b\n1,ü\n".encode(), "a.csv"),
        (codecs.BOM_UTF16_LE + "a,b\n1,ü\n".encode("utf-16-le"), "a.csv"),
        ("a,b\n1,ü\n".encode("cp1252"), "a.csv"),
    ],
)
def test_separators_and_encodings_are_detected(
    tmp_path: Path, data: bytes | str, name: str
) -> None:
    assert text_of(tmp_path, data, name)[0] == "a,b\n1,ü\n"


def test_conversion_between_text_formats_keeps_every_digit(tmp_path: Path) -> None:
    data = 'zip,price,note\n00420,1.10,"a ""b"", c"\n12345678901234567890,1e5,"two\nlines"\n'
    assert text_of(tmp_path, data)[0] == data


def test_types_are_detected_if_no_cell_loses_information(tmp_path: Path) -> None:
    data = (
        "zip,n,x,day,at,yes,big,mixed,none\n"
        "00420,1,1.5,2025-01-31,2025-01-31 10:30,true,12345678901234567890,1,\n"
        "10115,-2,2,2024-02-29,2024-02-29T10:30:01.5,False,2,x,\n"
    )
    description = info(tmp_path, data)
    types = {each["name"]: each["type"] for each in description["columns"]}
    assert types["zip"] == types["big"] == types["mixed"] == types["none"] == "String"
    assert (types["n"], types["x"], types["day"], types["yes"]) == (
        "Int64",
        "Float64",
        "Date",
        "Boolean",
    )
    assert types["at"].startswith("Datetime")
    assert description["preview"][1] == {
        "zip": "10115", "n": -2, "x": 2.0, "day": "2024-02-29", "at": "2024-02-29T10:30:01.500000",
        "yes": False, "big": "2", "mixed": "x", "none": None,
    }  # fmt: skip


def test_invalid_dates_stay_text(tmp_path: Path) -> None:
    assert info(tmp_path, "a\n2025-02-30\n")["columns"] == [{"name": "a", "type": "String"}]


def test_rows_of_different_lengths_keep_all_cells(tmp_path: Path) -> None:
    text, table = text_of(tmp_path, "a,b\n1\n1,2,3\n4,5,6,7\n")
    assert text == "a,b,column_3,column_4\n1,,,\n1,2,3,\n4,5,6,7\n"
    assert table["problems"] == [
        "2 rows have more than the 2 cells of the header",
        "1 rows have fewer than the 2 cells of the header",
    ]


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ("a,b,c\n1\n2,3\n", ["2 rows have fewer than the 3 cells of the header"]),
        ("\na,b,c\n1,2,\n1,2\n", ["1 rows have fewer than the 3 cells of the header"]),
        ("a,b,c\n1,2,\n", []),
        ("a\n1\n\n2\n", []),
        ('a,b\n\n1,"x"y\n', ["1 empty lines were removed"]),
    ],
)
def test_short_rows_are_reported(tmp_path: Path, data: str, problems: list[str]) -> None:
    assert info(tmp_path, data)["problems"] == problems


def test_short_rows_without_a_header(tmp_path: Path) -> None:
    for data in ("1,2\n3\n", "3\n1,2\n"):
        _, table = text_of(tmp_path, data, header=False)
        assert table["problems"] == ["1 rows have fewer than the 2 cells of the longest row"]


@pytest.mark.parametrize("data", ["a,b\r1,2\r3,4\r", "a,b\r1,2\n3,4", '"a",b\n1,"2"\r3,4\r\n'])
def test_carriage_returns_as_line_ends(tmp_path: Path, data: str) -> None:
    description = info(tmp_path, data)
    assert description["preview"] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert description["problems"] == []


def test_a_quoted_carriage_return_is_not_a_line_end(tmp_path: Path) -> None:
    assert info(tmp_path, 'a,b\r1,"x\ry"\r')["preview"] == [{"a": 1, "b": "x\ry"}]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('a,b\n"unclosed,2\n3,4\n', 2),
        ('a,b\n"x\ny",1\n5" d,"z', 4),
        ('a,"b\n1,2\n', 1),
        ('a,b\n1,"', 2),
    ],
)
def test_an_unclosed_quote_is_reported(tmp_path: Path, data: str, line: int) -> None:
    problems = info(tmp_path, data)["problems"]
    assert f"unclosed quote, starting in line {line}" in problems


def test_closed_quotes_are_not_reported(tmp_path: Path) -> None:
    for data in ('a,b\n1,"x""y"', 'a,b\n5" d,6" e\n', 'a,b\n"5" d,6\n'):
        assert info(tmp_path, data)["problems"] == []


def test_text_after_an_unclosed_quote_is_kept(tmp_path: Path) -> None:
    assert "2,3" in text_of(tmp_path, 'a,b\n1,"x\n2,3\n')[0]


RENAMED = "columns are renamed: 2 from '' to 'column_2', 3 from 'A' to 'A_2', 4 from 'a' to 'a_3'"


def test_names_of_columns_are_made_unique_and_reported(tmp_path: Path) -> None:
    description = info(tmp_path, "a,,A,a\n1,2,3,4\n")
    assert [each["name"] for each in description["columns"]] == ["a", "column_2", "A_2", "a_3"]
    assert description["problems"] == [RENAMED]
    assert info(tmp_path, "a,\n1,2,3\n")["problems"][1:] == [
        "columns are renamed: 2 from '' to 'column_2'"
    ]
    many = info(tmp_path, "a" + ",a" * 7 + "\n")
    assert many["problems"][0].endswith("6 from 'a' to 'a_6' and 2 more")


def test_conversion_between_text_formats_keeps_the_header(tmp_path: Path) -> None:
    data = 'a,,A,a ,"x,y"\n1,2,3,4,5\n'
    text, table = text_of(tmp_path, data)
    assert text == data
    assert table["columns"] == ["a", "column_2", "A_2", "a_3", "x,y"]
    call = make_call(tmp_path, table=tmp_path / "a.csv")
    result = module.filter(call, columns=["a_3", "column_2"])
    assert (tmp_path / "outputs/table" / result["file"]).read_text() == "a ,\n4,2\n"
    assert text_of(tmp_path, '""\n1\n')[0] == '""\n1\n'


def test_without_a_header(tmp_path: Path) -> None:
    assert text_of(tmp_path, "1,2\n3,4\n", header=False)[0] == "column_1,column_2\n1,2\n3,4\n"


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.csv", "a.csv is empty"),
        (b"\n \n", "a.csv", "a.csv is empty"),
        (b"\x00\x01\x02" * 50, "a.csv", "a.csv is not text"),
        (b"PAR1 and no more", "a.parquet", "a.parquet is damaged"),
        (b"hello", "a.parquet", "a.parquet is damaged"),
        (b"PK\x03\x04 no", "a.xlsx", "a.xlsx is damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.xlsx", "a.xlsx is damaged, encrypted or misnamed"),
    ],
)
def test_invalid_tables_are_rejected(tmp_path: Path, data: bytes, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        text_of(tmp_path, data, name)
    assert str(tmp_path) not in str(raised.value)


def test_a_header_without_rows_is_a_table(tmp_path: Path) -> None:
    text, table = text_of(tmp_path, "a,b\n")
    assert (text, table["rows"]) == ("a,b\n", 0)


def test_file_names_are_not_patterns(tmp_path: Path) -> None:
    assert text_of(tmp_path, "a\n1\n", "x[1]*.csv")[1]["file"] == "x[1]*.csv"
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "y[1]*.parquet")
    assert converted(tmp_path, tmp_path / "y[1]*.parquet")["converted"] == 1


def test_a_parquet_file_with_too_many_rows_is_rejected(tmp_path: Path) -> None:
    frame = pl.select(pl.repeat(1, 150_000_000, dtype=pl.Int8).alias("a"))
    frame.write_parquet(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2_000_000
    with pytest.raises(
        ValueError, match=r"has 150,000,000 rows of 1 columns; the limit is 100,000,000 cells"
    ):
        converted(tmp_path, tmp_path / "a.parquet")


def test_a_damaged_file_does_not_fail_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("a\n1\n")
    (tmp_path / "bad.xlsx").write_text("no")
    call = make_call(tmp_path, tables=[tmp_path / "bad.xlsx", tmp_path / "good.csv"])
    result, content, progress = run_streaming(module.convert(call, format="parquet"))
    assert (result["converted"], result["failed"]) == (1, 1)
    assert [each["file"] for each in result["tables"]] == [None, "good.parquet"]
    assert content == result["tables"]
    assert [each.fraction for each in progress] == [0, 0.5, 1]
    assert pl.read_parquet(tmp_path / "outputs/tables/good.parquet").to_dicts() == [{"a": 1}]


def test_output_names_are_unique(tmp_path: Path) -> None:
    paths = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "Größe.csv")
        paths[-1].write_text("a\n1\n")
    assert [each["file"] for each in converted(tmp_path, *paths)["tables"]] == [
        "Größe.csv",
        "Größe-2.csv",
    ]
