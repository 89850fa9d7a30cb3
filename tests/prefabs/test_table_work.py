"""Functions on tables: conditions, sorting, summaries, plots, and output formats."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")

PEOPLE = """name,city,age,joined,zip,member
Ada,London,36,2024-01-05,00420,true
Bob,,41,2023-06-30,10115,false
Łukasz,Łódź,,2025-02-01,90001,true
Eve,Paris,29,2022-11-11,,
Ada,London,36,2024-01-05,00420,true
"""


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE, encoding="utf-8")
    return path


def filtered(tmp_path: Path, path: Path, **parameters: Any) -> tuple[list[str], dict[str, Any]]:
    """Filter a table; return the first cell of each row of the output, and the result."""
    result = module.filter(make_call(tmp_path, table=path), **parameters)
    text = (tmp_path / "outputs/table" / result["file"]).read_text("utf-8")
    return [line.split(",")[0] for line in text.splitlines()[1:]], result


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ([("city", "=", "London")], ["Ada", "Ada"]),
        ([("city", "!=", "London")], ["Bob", "Łukasz", "Eve"]),
        ([("age", ">", 30)], ["Ada", "Bob", "Ada"]),
        ([("age", ">=", "36"), ("age", "<", 41.0)], ["Ada", "Ada"]),
        ([("age", "empty", None)], ["Łukasz"]),
        ([("age", "not empty", None), ("city", "not empty", None)], ["Ada", "Eve", "Ada"]),
        ([("joined", "<", "2024-01-01")], ["Bob", "Eve"]),
        ([("zip", "=", "00420")], ["Ada", "Ada"]),
        ([("zip", "starts", "9")], ["Łukasz"]),
        ([("city", "contains", "ó")], ["Łukasz"]),
        ([("city", "ends", "is")], ["Eve"]),
        ([("name", "matches", "^[AB].[ab]$")], ["Ada", "Bob", "Ada"]),
        ([("member", "=", True)], ["Ada", "Łukasz", "Ada"]),
        ([("age", "in", [29, 41])], ["Bob", "Eve"]),
        ([("age", "not in", [36])], ["Bob", "Eve"]),
        ([("joined", "in", ["2025-02-01"])], ["Łukasz"]),
        ([], ["Ada", "Bob", "Łukasz", "Eve", "Ada"]),
    ],
)
def test_conditions(tmp_path: Path, people: Path, where: Any, names: list[str]) -> None:
    conditions = [{"column": column, "op": op, "value": value} for column, op, value in where]
    assert filtered(tmp_path, people, where=conditions)[0] == names


def test_rows_that_match_any_condition(tmp_path: Path, people: Path) -> None:
    where = [
        {"column": "city", "op": "=", "value": "Paris"},
        {"column": "age", "op": ">", "value": 40},
    ]
    assert filtered(tmp_path, people, where=where, match="any")[0] == ["Bob", "Eve"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            {"column": "town", "op": "=", "value": 1},
            "column 'town' does not exist; the columns are: name, city",
        ),
        (
            {"column": "age", "op": "=", "value": "old"},
            "age: 'old' cannot be compared with the column's type, Int64; pass a number such as 1.5",
        ),
        ({"column": "age", "op": "=", "value": True}, "age: True cannot be compared"),
        ({"column": "joined", "op": "<", "value": "soon"}, "joined: 'soon' cannot be compared"),
        (
            {"column": "name", "op": "matches", "value": "("},
            "is not a valid regular expression: unclosed group",
        ),
        ({"column": "name", "op": "contains", "value": 3}, "the value must be text, got 3"),
        ({"column": "name", "op": "like", "value": "x"}, "unknown op 'like'; the ops are: ="),
        ({"column": "age", "op": "in", "value": 3}, "the value must be a list"),
        ({"column": "age", "op": ">"}, "a value is required"),
    ],
)
def test_invalid_conditions_are_rejected(
    tmp_path: Path, people: Path, condition: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        filtered(tmp_path, people, where=[condition])


@pytest.mark.parametrize(
    ("column", "op", "value", "reported"),
    [
        ("n", ">", 5, True),
        ("n", "<=", "5", True),
        ("n", "=", 5, True),
        ("n", "in", [5, "x"], True),
        ("n", ">", "2024-01-31", True),
        ("n", "=", "5", False),
        ("n", ">", "m", False),
        ("n", "not in", ["5"], False),
        ("n", "contains", "5", False),
        ("n", "empty", 5, False),
        ("zip", ">", "00420", False),
        ("whole", ">", 5, False),
    ],
)
def test_comparison_of_text_with_a_number_is_reported(
    tmp_path: Path, column: str, op: str, value: Any, reported: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,zip,whole\n10,00421,9\n9,10115,10\nnone,2,3\n")
    _, result = filtered(tmp_path, path, where=[{"column": column, "op": op, "value": value}] * 2)
    messages = [f"{column} {op}: the column is text and was compared as text"]
    found = [each for each in result["problems"] if "stay text" not in each]
    assert found == (messages if reported else [])


@pytest.mark.parametrize(
    ("cells", "sort", "names", "reported"),
    [
        (["9", "10", "b"], "n", ["10", "9", "b"], True),
        (["9", "10", "b"], "-n", ["b", "9", "10"], True),
        (["9", "8", "b"], "n", ["8", "9", "b"], False),
        (["00420", "10115", "x"], "n", ["00420", "10115", "x"], False),
        (["9", "10", "11"], "n", ["9", "10", "11"], False),
    ],
)
def test_numbers_that_are_sorted_as_text_are_reported(
    tmp_path: Path, cells: list[str], sort: str, names: list[str], reported: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["n", *cells]) + "\n")
    found, result = filtered(tmp_path, path, sort=[sort])
    assert found == names
    messages = ["n: the column is text and was sorted as text"]
    problems = [each for each in result["problems"] if "stay text" not in each]
    assert problems == (messages if reported else [])


def test_sorting_columns_and_the_output_file(tmp_path: Path, people: Path) -> None:
    names, result = filtered(
        tmp_path, people, sort=["-age", "name"], distinct=True, columns=["name", "zip"], limit=3
    )
    assert names == ["Bob", "Ada", "Eve"]
    assert (
        tmp_path / "outputs/table/people.csv"
    ).read_text() == "name,zip\nBob,10115\nAda,00420\nEve,\n"
    assert (result["rows"], result["rows_before"], result["columns"]) == (3, 5, ["name", "zip"])
    assert result["preview"][1] == {"name": "Ada", "zip": "00420"}
    with pytest.raises(ValueError, match="column 'size' does not exist"):
        filtered(tmp_path, people, sort=["-size"])


def test_a_summary_of_columns(tmp_path: Path, people: Path) -> None:
    result = module.summarise(make_call(tmp_path, table=people))
    by_column = {row["column"]: row for row in result["summary"]}
    assert by_column["age"] == {
        "column": "age", "type": "Int64", "count": 4, "empty": 1, "distinct": 3, "least": "29",
        "largest": "41", "mean": 35.5, "median": 36.0, "deviation": pytest.approx(4.9328, abs=1e-3),
    }  # fmt: skip
    city = by_column["city"]
    assert (city["empty"], city["mean"], by_column["joined"]["largest"]) == (
        1,
        None,
        "2025-02-01",
    )
    assert result["rows"] == 6
    assert (
        (tmp_path / "outputs/summary/people-summary.csv")
        .read_text()
        .startswith("column,type,count")
    )


def test_a_summary_of_groups(tmp_path: Path, people: Path) -> None:
    call = make_call(tmp_path, table=people)
    result = module.summarise(
        call, group_by=["city"], measures=["mean", "max", "count"], format="xlsx"
    )
    assert result["summary"][0] == {
        "city": "London",
        "rows": 2,
        "age_mean": 36.0,
        "age_max": 36,
        "age_count": 2,
    }
    assert result["summary"][-1]["city"] is None
    again = module.info(make_call(tmp_path, table=tmp_path / "outputs/summary" / result["file"]))
    assert again["rows"] == 4
    with pytest.raises(
        ValueError, match="name: mean is not available for columns of type String; use min"
    ):
        module.summarise(call, group_by=["city"], columns=["name"], measures=["mean"])


def test_values_are_kept_or_reported_in_each_format(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["=1+1", "https://example.com", "ü\n\t", None],
            "whole": [1, 2, None, 2**60],
            "x": [0.1, 12345.6789, float("nan"), None],
            "day": [datetime.date(2025, 1, 31), None, datetime.date(1900, 3, 1), None],
            "at": pl.Series([datetime.datetime(2025, 1, 31, 10)] * 4).dt.replace_time_zone(
                "Europe/Paris"
            ),
            "list": [[1, 2], [], None, [3]],
            "record": [{"a": "ü"}] * 4,
            "bytes": [b"\x00\xff", None, b"", b"x"],
            "TEXT": ["a", "b", "c", "d"],
        }
    )
    path = tmp_path / "all.parquet"
    frame.write_parquet(path)
    call = make_call(tmp_path, tables=path)
    (excel,) = run_streaming(module.convert(call, format="xlsx"))[0]["tables"]
    assert excel["problems"] == [
        "whole: written as text, because Excel keeps 15 digits of a number",
        "x: written as empty cells, because Excel does not support NaN and infinity: row 3",
        "at: written in UTC, because Excel does not support time zones",
        "columns are renamed: 9 from 'TEXT' to 'TEXT_2'",
    ]
    back = module.info(make_call(tmp_path, table=tmp_path / "outputs/tables/all.xlsx"))
    assert [each["name"] for each in back["columns"]] == [*frame.columns[:-1], "TEXT_2"]
    first = back["preview"][0]
    assert (first["text"], first["x"], first["day"][:10]) == ("=1+1", 0.1, "2025-01-31")
    assert (first["at"], first["list"], first["bytes"]) == ("2025-01-31T09:00:00", "[1, 2]", "AP8=")
    (csv,) = run_streaming(module.convert(call, format="tsv"))[0]["tables"]
    text = (tmp_path / "outputs/tables" / csv["file"]).read_text("utf-8")
    assert "1152921504606846976" in text and '{""a"": ""ü""}' in text


def test_formulas_are_reported_or_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,t\n-1,=cmd()\n+5.2%,@SUM(A1)\n-,a=b\n")
    call = make_call(tmp_path, tables=path)
    (plain,) = run_streaming(module.convert(call, format="csv"))[0]["tables"]
    assert plain["problems"][0].startswith("cells that begin like formulas: 2 (")
    run_streaming(module.convert(call, format="csv", escape_formulas=True))
    assert (
        tmp_path / "outputs/tables/a.csv"
    ).read_text() == "n,t\n-1,'=cmd()\n+5.2%,'@SUM(A1)\n-,a=b\n"


def test_limits_of_excel(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "x" * 40_000 + "\n")
    with pytest.raises(ValueError, match="a: Excel cells have at most 32,767 characters"):
        run_streaming(module.convert(make_call(tmp_path, tables=path), format="xlsx"))
    path.write_text("a,b\n")
    (empty,) = run_streaming(module.convert(make_call(tmp_path, tables=path), format="xlsx"))[0][
        "tables"
    ]
    again = module.info(make_call(tmp_path, table=tmp_path / "outputs/tables" / empty["file"]))
    assert [each["name"] for each in again["columns"]] == ["a", "b"]


@pytest.mark.parametrize("kind", ["line", "bar", "scatter", "histogram"])
def test_plots(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "好 $x$.csv"
    path.write_text(
        "$cost_1^,b,day,name\n1,5,2025-01-01,$\n3,,2025-01-02,^_\n2,4,2025-01-04,好\n", "utf-8"
    )
    for x in ("", "day", "name", "b"):
        call = make_call(tmp_path, table=path)
        result = module.plot(call, kind=kind, x=x, title="\\frac{$}", width=500, height=300)
        with Image.open(tmp_path / "outputs/picture" / result["file"]) as picture:
            assert (picture.format, picture.size) == ("PNG", (500, 300))
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 5
        assert result["points"] == 3


def test_a_plot_of_groups(tmp_path: Path, people: Path) -> None:
    call = make_call(tmp_path, table=people)
    assert module.plot(call, kind="bar", x="city", y=["age"], combine="mean")["points"] == 4
    assert module.plot(call, kind="bar", x="city", combine="count")["points"] == 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"y": ["name"]},
            "name: only numbers can be drawn, not String; the columns of numbers are: age",
        ),
        ({"y": ["gone"]}, "column 'gone' does not exist"),
        ({"x": "age"}, "the table has no column of numbers to draw"),
    ],
)
def test_unsuitable_columns_are_rejected(
    tmp_path: Path, people: Path, parameters: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module.plot(make_call(tmp_path, table=people), **parameters)


def test_omitted_rows_of_a_plot_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": range(250_000)}).write_parquet(path)
    call = make_call(tmp_path, table=path)
    assert module.plot(call)["problems"] == ["only one in 3 of the 250,000 rows is drawn"]
    assert module.plot(call, kind="bar")["problems"] == [
        "only the first 300 of 250,000 bars are drawn"
    ]
