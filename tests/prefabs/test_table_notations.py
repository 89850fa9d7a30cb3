"""Notations of CSV files: separators, encodings and numbers, and reports about them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pytest

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("table")


def info(tmp_path: Path, data: bytes | str, name: str = "a.csv") -> dict[str, Any]:
    """Return the result of ``info`` for a file with the content ``data``."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    description: dict[str, Any] = module.info(make_call(tmp_path, table=path))
    return description


def column(tmp_path: Path, *cells: str) -> tuple[str, list[Any], list[str]]:
    """Return type, values and problems of a column in a file with the separator ``;``."""
    rows = "".join(f"{cell};z\n" for cell in cells)
    description = info(tmp_path, "v;z\n" + rows)
    return (
        description["columns"][0]["type"],
        [row["v"] for row in description["preview"]],
        description["problems"],
    )


@pytest.mark.parametrize(
    "data",
    [
        "sep=;\na;b\n1;x\n",
        "SEP=;\r\na;b\r\n1;x\r\n",
        '"sep=;"\na;b\n1;x\n',
        "sep=;;\na;b\n1;x\n",
        "sep=\t\na\tb\n1\tx\n",
        "sep=\\t\na\tb\n1\tx\n",
        "sep=^\na^b\n1^x\n",
        "sep=,\na,b\n1,x\n",
        codecs.BOM_UTF8 + b"sep=;\r\na;b\r\n1;x\r\n",
        codecs.BOM_UTF16_LE + "sep=;\r\na;b\r\n1;x\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "sep=;\r\na;b\r\n1;x\r\n".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "sep=;\na;b\n1;x\n".encode("utf-32-le"),
    ],
)
def test_a_first_line_that_sets_the_separator(tmp_path: Path, data: bytes | str) -> None:
    description = info(tmp_path, data)
    assert description["preview"] == [{"a": 1, "b": "x"}]
    assert description["problems"] == []


@pytest.mark.parametrize("data", ["sep=x\n1\n", "sep=\n1\n", "a,sep=;\n1,2\n"])
def test_first_lines_that_do_not_set_the_separator(tmp_path: Path, data: str) -> None:
    description = info(tmp_path, data)
    assert description["rows"] == 1 and "sep=" in description["columns"][-1]["name"]


def test_the_parameter_overrides_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\na,b\n1,2\n")
    call = make_call(tmp_path, tables=path)
    (table,) = run_streaming(module.convert(call, format="csv", delimiter=","))[0]["tables"]
    assert table["columns"] == ["a", "b"]
    assert table["problems"] == ["the first line sets the separator ';'; ',' is used"]


LONG = "abc,def\n" * 40_000  # 320,000 bytes of ASCII


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ((LONG + "Zürich,é\n").encode(), "Zürich", None),
        ((LONG + "Zürich,é\n").encode("cp1252"), "Zürich", "cp1252"),
        ((LONG + "10 €,“x”\n" * 20).encode("cp1252"), "10 €", "cp1252"),
        ((LONG + "Привет мир как дела,да\n" * 30).encode("cp1251"), "Привет мир как дела", "1251"),
        ((LONG + "東京都渋谷区の住所です,大阪\n" * 30).encode("shift_jis"), "東京都渋谷区の住所です", ""),
        (codecs.BOM_UTF16_LE + LONG.encode("utf-16-le") + "ü,b\n".encode("utf-16-le"), "ü", None),
        ("abc,ü\n".encode("utf-16-le"), "ü", "utf-16-le"),
        ("abc,ü\n".encode("utf-16-be"), "ü", "utf-16-be"),
    ],
    ids=["utf-8", "cp1252", "cp1252 signs", "cp1251", "shift_jis", "utf-16 mark", "le", "be"],
)  # fmt: skip
def test_encodings_are_detected_if_the_first_character_beyond_ascii_is_late(
    tmp_path: Path, data: bytes, text: str, encoding: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    call = make_call(tmp_path, tables=path)
    (table,) = run_streaming(module.convert(call, format="csv"))[0]["tables"]
    written = (tmp_path / "outputs/tables" / table["file"]).read_text("utf-8")
    assert text in written and "\ufffd" not in written
    assert len(table["problems"]) == (encoding is not None)
    assert encoding is None or encoding in table["problems"][0]


def test_a_detected_encoding_is_reported(tmp_path: Path) -> None:
    (problem,) = info(tmp_path, b"a,b\n1,\xfc\n")["problems"]
    assert problem == (
        "read as cp1252, the most likely encoding: in UTF-8, byte 0xfc at position 6 is not valid"
    )


def test_nul_characters(tmp_path: Path) -> None:
    description = info(tmp_path, "a,b\n1,x\0y\n2,z\n" * 3)
    assert description["preview"][0]["b"] == "xy"
    assert "3 NUL characters were removed" in description["problems"]
    with pytest.raises(ValueError, match=r"^a\.csv is not text$"):
        info(tmp_path, bytes(range(32)) * 20)


@pytest.mark.parametrize(
    ("cells", "type_", "values", "problem"),
    [
        # numbers
        ([".5", "5.", "+3", "1e5", "-.25"], "Float64", [0.5, 5.0, 3.0, 1e5, -0.25], None),
        ([" 1", "2 "], "Int64", [1, 2], None),
        (["1", '" "', "2"], "Int64", [1, None, 2], None),
        (["1,5", "2"], "Float64", [1.5, 2.0], "decimal commas"),
        (["1.234,56", "7"], "Float64", [1234.56, 7.0], "v ('1.234,56')"),
        (["1,234.56", "7"], "Float64", [1234.56, 7.0], "thousands separators are read as numbers"),
        (["1.234.567", "1"], "Float64", [1234567.0, 1.0], "thousands separators"),
        (["1 234,5", "1\u00a0000"], "Float64", [1234.5, 1000.0], "decimal commas"),
        (["1'234.5", "2"], "Float64", [1234.5, 2.0], "thousands separators"),
        (["1.5", "NaN"], "Float64", [1.5, None], "NaN is read as an empty cell"),
        (["1", "-inf", "nan"], "Float64", [1.0, None, None], "v ('-inf' in row 2)"),
        (["1,5", "NaN"], "Float64", [1.5, None], "inf as infinite"),
        # text that looks like numbers: reported with the reason
        (["1,234", "5,678"], "String", ["1,234"], "'1,234' in row 1: a decimal or a thousands"),
        (["1,5", "1.5"], "String", ["1,5"], "'1,5' in row 1: does not fit the notation"),
        (["12%", "7 %"], "String", ["12%"], "v ('12%' in row 1: percent sign)"),
        (["$5", "$6.10"], "String", ["$5"], "'$5' in row 1: currency, unit or other text"),
        (["5 €", "6 €"], "String", ["5 €"], "currency"),
        (["EUR 5", "EUR 6"], "String", ["EUR 5"], "currency"),
        (["1", "2", "n/a"], "String", ["1"], "v ('n/a' in row 3: not a number)"),
        (["(5)", "(6)"], "String", ["(5)"], "'(5)' in row 1"),
        (["31.01.2025", "01.02.2025"], "String", ["31.01.2025"], "dates are read as 2025-01-31"),
        (["5-", "6-"], "String", ["5-"], "'5-' in row 1: not a number"),
        # text: not reported
        (["00420", "10115"], "String", ["00420"], None),
        (["+4930123456", "+4930654321"], "String", ["+4930123456"], None),
        (["12345678901234567890"], "String", ["12345678901234567890"], None),
        (["a", "b", "1"], "String", ["a"], None),
        (["inf", "nan"], "String", ["inf"], "not a number"),
    ],
)
def test_notations_of_numbers(
    tmp_path: Path, cells: list[str], type_: str, values: list[Any], problem: str | None
) -> None:
    found, shown, problems = column(tmp_path, *cells)
    assert (found, shown[: len(values)]) == (type_, values)
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


def test_decimal_commas_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1,5;2,5\n3,5;4,5\n")
    call = make_call(tmp_path, tables=path)
    (table,) = run_streaming(module.convert(call, format="csv", header=False))[0]["tables"]
    assert table["columns"] == ["column_1", "column_2"]


def test_conversion_between_text_formats_keeps_notations_without_reports(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1,5;12%\n")
    (table,) = run_streaming(module.convert(make_call(tmp_path, tables=path), format="csv"))[0][
        "tables"
    ]
    assert table["problems"] == []
    written = (tmp_path / "outputs/tables" / table["file"]).read_text()
    assert written == 'a,b\n"1,5",12%\n'


def test_many_columns_are_reported_in_one_message(tmp_path: Path) -> None:
    names = ";".join(f"c{number}" for number in range(50))
    description = info(tmp_path, f"{names}\n" + ";".join(["1,5"] * 50) + "\n")
    assert len(description["problems"]) == 1 and description["problems"][0].endswith("and 45 more")


@pytest.mark.parametrize(
    ("data", "preview"),
    [
        ('a,b\n5" d,6" e\n', {"a": '5" d', "b": '6" e'}),
        ('a,b\n"x ""y"" z","1\n2"\n', {"a": 'x "y" z', "b": "1\n2"}),
        ("a,b\r\n1\r\n2,3,4\r\n", {"a": 1, "b": None, "column_3": None}),
        ('a,a,\n1,2,"x\r\ny"\n', {"a": 1, "a_2": 2, "column_3": "x\r\ny"}),
    ],
)
def test_quotes_newlines_and_uneven_rows(
    tmp_path: Path, data: str, preview: dict[str, Any]
) -> None:
    assert info(tmp_path, data)["preview"][0] == preview


def test_text_with_the_signature_of_another_format(tmp_path: Path) -> None:
    assert info(tmp_path, "PAR1,PAR2\n1,2\n")["preview"] == [{"PAR1": 1, "PAR2": 2}]
    assert info(tmp_path, "PK,b\n1,2\n")["preview"] == [{"PK": 1, "b": 2}]
