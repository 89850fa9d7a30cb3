"""HTML pages and text files in different encodings."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pytest

from tests.prefabs.documents import pdf
from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("document-text")

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>A &amp; B</title>
<meta name="author" content="Ada"><style>p { color: red }</style></head><body>
<nav><ul><li>Home</li></ul></nav><header><h1>Big   news</h1></header>
<script>document.write("<p>not extracted</p>")</script><noscript>turn it on</noscript>
<p>One <b>bold</b> word,<br>a second&nbsp;line. <a href="/more (1)">More</a>
<a href="javascript:alert(1)">trap</a></p><div hidden>unseen</div>
<ol><li>first<ul><li>inner</li></ul></li><li>second</li></ol>
<table><tr><th>Year<th>Sum<tr><td>2025<td>4<br>2</table>
<pre>  def f():
    return 1</pre><p style="display: none">unseen</p>
<aside>advert</aside><footer>imprint</footer></body></html>"""


def text_of(tmp_path: Path, name: str, data: str | bytes, **parameters: Any) -> str:
    """Extract a file with the content ``data``, and return its text."""
    return text_and_result(tmp_path, name, data, **parameters)[0]


def text_and_result(
    tmp_path: Path, name: str, data: str | bytes, **parameters: Any
) -> tuple[str, dict[str, Any]]:
    """Extract a file with the content ``data``; return its text and its result."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    result, *_ = run_streaming(module.extract(make_call(tmp_path, documents=path), **parameters))
    (known,) = result["documents"]
    return (tmp_path / "outputs/texts" / known["file"]).read_text("utf-8"), known


def test_the_visible_text_of_a_page_is_extracted(tmp_path: Path) -> None:
    text, known = text_and_result(tmp_path, "page.html", PAGE)
    assert text == (
        "Big news\n\nOne bold word,\na second\xa0line. More trap\n\n1. first\n  - inner\n2. second\n\n"
        "Year\tSum\n2025\t4 2\n\n  def f():\n    return 1\n"
    )
    assert (known["title"], known["author"]) == ("A & B", "Ada")


def test_a_page_in_markdown_with_its_links(tmp_path: Path) -> None:
    text = text_of(tmp_path, "page.html", PAGE, format="markdown", keep_links=True)
    assert text.startswith("# Big news\n")
    assert "[More](/more%20(1%29)" in text and "javascript" not in text
    assert "| Year | Sum |\n| --- | --- |\n| 2025 | 4 2 |" in text
    assert "```\n  def f():\n    return 1\n```" in text


def test_navigation_is_kept_if_requested_or_if_there_is_no_other_text(tmp_path: Path) -> None:
    assert "imprint" in text_of(tmp_path, "page.html", PAGE, keep_navigation=True)
    text, known = text_and_result(tmp_path, "menu.html", "<nav><p>only this</p></nav>")
    assert text == "only this\n"
    assert known["problems"] == ["all text of the page is in navigation elements; it was kept"]


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000 + "here",
        "<div>" * 100_000 + "here" + "</div>" * 100_000,
        "<table><tr><td>" * 30_000 + "here",
        "<ul><li>" * 50_000 + "here",
        "<b><i>x" * 50_000 + "here",
        "<td><p>x</p>" * 100_000 + "here",
        "<a href=x>" * 100_000 + "here",
        "here" + "<" * 500_000,
        "here<!--" * 100_000,
        "here<p " + "x " * 500_000,
        "here\0\ud800<p\0>".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
    ids=lambda page: ascii(page[:12]),
)
def test_pathological_pages_are_read(tmp_path: Path, page: str) -> None:
    for kind in ("text", "markdown"):
        assert "here" in text_of(tmp_path, "page.html", page, format=kind, keep_links=True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            '<meta charset="iso-8859-1"><p>caf\u00e9 \u201cx\u201d'.encode("cp1252"),
            "caf\u00e9 \u201cx\u201d",
        ),
        (
            '<meta http-equiv=Content-Type content="text/html; charset=Shift_JIS"><p>日本語'.encode(
                "shift_jis"
            ),
            "日本語",
        ),
        ('<meta charset="utf-16"><p>caf\u00e9'.encode(), "caf\u00e9"),
        ('<meta charset="rot13"><p>caf\u00e9'.encode(), "caf\u00e9"),
        ('<meta charset="nonsense"><p>caf\u00e9'.encode(), "caf\u00e9"),
        (
            codecs.BOM_UTF16_LE + '<meta charset="ascii"><p>caf\u00e9'.encode("utf-16-le"),
            "caf\u00e9",
        ),
    ],
)
def test_encodings_of_pages(tmp_path: Path, data: bytes, expected: str) -> None:
    assert text_of(tmp_path, "a.htm", data) == expected + "\n"


def test_an_older_encoding_is_detected(tmp_path: Path) -> None:
    original = "Le garçon a mangé une crème brûlée à l'hôtel, et la fête était très réussie. " * 20
    assert text_of(tmp_path, "a.txt", original.encode("cp1252")) == original
    assert text_of(tmp_path, "b.txt", codecs.BOM_UTF8 + original.encode()) == original


def test_invalid_characters_are_replaced_and_reported(tmp_path: Path) -> None:
    text, known = text_and_result(
        tmp_path, "a.txt", "größer ".encode() * 50 + b"\xff" + "ä".encode()
    )
    assert text == "größer " * 50 + "\ufffdä"
    assert known["problems"] == ["a.txt: characters that are invalid in utf-8: 1"]


def test_text_is_kept_with_normalized_line_ends(tmp_path: Path) -> None:
    assert (
        text_of(tmp_path, "a.md", b"# A\r\n\r\n<b>x</b>\rend\x1b[2J\x07", format="markdown")
        == "# A\n\n<b>x</b>\nend[2J"
    )


def test_binary_data_is_rejected_and_a_blank_page_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^noise\.txt is not text$"):
        text_of(tmp_path, "noise.txt", bytes(range(256)) * 100)
    assert text_and_result(tmp_path, "blank.html", " ")[1]["problems"] == ["blank.html has no text"]


@pytest.mark.parametrize("name", ["void.txt", "void.md", "void.html"])
@pytest.mark.parametrize("data", [b"", codecs.BOM_UTF8])
def test_an_empty_text_is_read_and_reported(tmp_path: Path, name: str, data: bytes) -> None:
    text, known = text_and_result(tmp_path, name, data)
    assert (text, known["characters"], known["problems"]) == ("", 0, [f"{name} is empty"])
    (known,) = module.info(make_call(tmp_path, documents=tmp_path / name))["documents"]
    assert (known["kind"] is None, known["problems"]) == (False, [f"{name} is empty"])


@pytest.mark.parametrize("name", ["void.pdf", "void.docx"])
def test_an_empty_pdf_or_docx_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is empty$"):
        text_of(tmp_path, name, b"")


def test_the_content_of_a_file_takes_precedence_over_its_name(tmp_path: Path) -> None:
    pdf(tmp_path / "a.pdf", ["in a PDF"]).rename(tmp_path / "a.txt")
    text, known = text_and_result(tmp_path, "a.txt", (tmp_path / "a.txt").read_bytes())
    assert (text, known["kind"]) == ("in a PDF\n", "pdf")


def test_a_text_that_is_too_large_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.write(b"x")
        file.truncate((64 << 20) + 1)
    with pytest.raises(ValueError, match="the limit for text is 67,108,864"):
        run_streaming(module.extract(make_call(tmp_path, documents=path)))


def test_output_names_are_unique(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(["Ä b.txt", "ä B.html", "Ä b.md", "x" * 200 + ".txt", ".txt"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(folder / name)
        paths[-1].write_text(f"text {number}")
    result, *_ = run_streaming(module.extract(make_call(tmp_path, documents=paths)))
    files = [each["file"] for each in result["documents"]]
    assert files == ["Ä b.txt", "ä B-2.txt", "Ä b-3.txt", "x" * 120 + ".txt", ".txt.txt"]
    for number, name in enumerate(files):
        assert (tmp_path / "outputs/texts" / name).read_text().startswith(f"text {number}")


def test_a_call_without_files_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="documents: at least one file is required"):
        run_streaming(module.extract(make_call(tmp_path)))


def test_info_reads_no_text(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "gone.pdf").write_text("x")
    page, gone = module.info(
        make_call(tmp_path, documents=[tmp_path / "page.html", tmp_path / "gone.pdf"])
    )["documents"]
    assert (page["kind"], page["title"], page["encrypted"]) == ("html", "A & B", False)
    assert (gone["kind"], gone["problems"]) == (
        None,
        ["gone.pdf is not a PDF: no %PDF- in its first 1,024 bytes"],
    )
    assert not (tmp_path / "outputs").exists()
