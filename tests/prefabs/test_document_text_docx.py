"""Word documents: all text is extracted, including text that python-docx omits."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml.ns import nsdecls
from docx.oxml.parser import parse_xml

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("document-text")
_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def text_of(tmp_path: Path, path: Path, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """Extract a document; return its text and its result."""
    result, *_ = run_streaming(module.extract(make_call(tmp_path, documents=path), **parameters))
    (document,) = result["documents"]
    return (tmp_path / "outputs/texts" / document["file"]).read_text("utf-8"), document


def saved(word: Any, path: Path) -> Path:
    word.save(str(path))
    return path


def changed(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Replace the content of each file in an archive by the result of ``change``."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, change(name, data))
    return path


@pytest.fixture
def report(tmp_path: Path) -> Path:
    word = docx.Document()
    word.core_properties.title = "Jahres\x09bericht"
    word.core_properties.author = "Zoë"
    word.add_heading("Results", 1)
    word.add_paragraph("All went well – 好.")
    word.add_paragraph("first", style="List Bullet")
    table = word.add_table(2, 2)
    for index, text in enumerate(["Year", "a|b", "2025", "42"]):
        table.cell(index // 2, index % 2).text = text
    word.add_paragraph("The end")
    return saved(word, tmp_path / "report.docx")


def test_headings_lists_and_tables(tmp_path: Path, report: Path) -> None:
    text, known = text_of(tmp_path, report)
    assert text == "Results\n\nAll went well – 好.\n\n- first\n\nYear\ta|b\n2025\t42\n\nThe end\n"
    assert (known["title"], known["author"], known["kind"]) == ("Jahres bericht", "Zoë", "docx")
    assert known["pages"] is None and known["problems"] == []
    marked, _ = text_of(tmp_path, report, format="markdown")
    assert "# Results\n" in marked
    assert "| Year | a\\|b |\n| --- | --- |\n| 2025 | 42 |\n" in marked


def test_text_in_content_controls_insertions_text_boxes_and_nested_tables(tmp_path: Path) -> None:
    word = docx.Document()
    for inside in (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        "<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
        "<w:p><w:moveFrom><w:r><w:t>from here</w:t></w:r></w:moveFrom><w:r><w:tab/><w:t>kept</w:t></w:r></w:p>",
        "<w:p><w:r><w:pict><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>",
        "<w:tbl><w:tr><w:tc><w:p/><w:tbl><w:tr><w:tc><w:p><w:r><w:t>nested</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:tc></w:tr></w:tbl>",
    ):
        element = parse_xml(inside.replace(">", f" {nsdecls('w')}>", 1))
        word.element.body.insert(len(word.element.body) - 1, element)
    text, _ = text_of(tmp_path, saved(word, tmp_path / "a.docx"))
    assert text == "in a control\n\nnew\n\n\tkept\n\nin a box\n\nnested\n"


def test_links_and_notes(tmp_path: Path) -> None:
    word = docx.Document()
    key = word.part.relate_to("https://example.com/x y", f"{_REL}/hyperlink", is_external=True)
    link = f'<w:p {nsdecls("w", "r")}><w:hyperlink r:id="{key}"><w:r><w:t>here</w:t></w:r></w:hyperlink><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    word.element.body.insert(0, parse_xml(link))
    path = saved(word, tmp_path / "a.docx")
    notes = f'<w:footnotes {nsdecls("w")}><w:footnote w:id="0" w:type="separator"><w:p><w:r><w:t>--</w:t></w:r></w:p></w:footnote><w:footnote w:id="2"><w:p><w:r><w:t>A note</w:t></w:r></w:p></w:footnote></w:footnotes>'
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/footnotes.xml", notes)

    def with_notes(name: str, data: bytes) -> bytes:
        relation = f'<Relationship Id="rId99" Type="{_REL}/footnotes" Target="footnotes.xml"/>'
        return (
            data.replace(b"</Rel", relation.encode() + b"</Rel")
            if name == "word/_rels/document.xml.rels"
            else data
        )

    text, _ = text_of(tmp_path, changed(path, with_notes), keep_links=True)
    assert text == "here (https://example.com/x%20y)[^2]\n\n[^2]: A note\n"
    marked, _ = text_of(tmp_path, path, keep_links=True, format="markdown")
    assert marked.startswith("[here](https://example.com/x%20y)[^2]")


def test_a_document_that_expands_to_too_much_is_rejected_before_it_is_unpacked(
    tmp_path: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_of(tmp_path, report)
    monkeypatch.setattr(sys.modules["docx_text"], "_MAX_BYTES", 20 << 20)
    with zipfile.ZipFile(report, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/a.bin", bytes(20 << 20))
    with pytest.raises(ValueError, match=r"^report\.docx expands to 2\d,\d+,\d+ bytes; "):
        text_of(tmp_path, report)
    monkeypatch.setattr(sys.modules["docx_text"], "_MAX_XML_BYTES", 1000)
    with pytest.raises(
        ValueError, match=r"^report\.docx expands to [\d,]+ bytes of XML; the limit is 1,000"
    ):
        text_of(tmp_path, report)


def test_entities_are_not_expanded_and_no_file_is_read(tmp_path: Path, report: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE w:document [<!ENTITY file SYSTEM "{secret.as_uri()}"><!ENTITY l0 "ha">{laughs}]>'

    def poisoned(name: str, data: bytes) -> bytes:
        if name != "word/document.xml":
            return data
        data = data.replace(b"<w:document", head.encode() + b"<w:document", 1)
        return data.replace(b"The end", b"&file;&l11;The end")

    try:
        text, _ = text_of(tmp_path, changed(report, poisoned))
    except ValueError as error:
        assert "damaged" in str(error)
    else:
        assert "SECRET" not in text and text.count("ha") < 100


def test_deeply_nested_content_is_skipped(tmp_path: Path, report: Path) -> None:
    def deep(name: str, data: bytes) -> bytes:
        nest = b"<w:sdt><w:sdtContent>" * 100 + b"<w:p/>" + b"</w:sdtContent></w:sdt>" * 100
        return (
            data.replace(b"<w:body>", b"<w:body>" + nest) if name == "word/document.xml" else data
        )

    text, known = text_of(tmp_path, changed(report, deep))
    assert "The end" in text
    assert known["problems"] == ["content nested deeper than 40 levels was skipped"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.docx", b"PK\x03\x04 and no more", "a.docx is damaged"),
        ("a.docx", b"just text", "a.docx is not a Word document"),
        ("a.docx", b"", "a.docx is empty"),
        (
            "a.doc",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "in a legacy Office format; save it as DOCX",
        ),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "a.docx is encrypted; save it without a password",
        ),
    ],
)
def test_invalid_word_documents_are_rejected(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        text_of(tmp_path, path)
    assert str(tmp_path) not in str(raised.value)


def test_another_zip_archive_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word.txt", "hello")
    with pytest.raises(
        ValueError,
        match=r"a\.docx is a ZIP archive, but not a Word document \(DOCX\); supported formats are",
    ):
        text_of(tmp_path, tmp_path / "a.docx")


def test_a_document_with_invalid_xml_is_damaged(tmp_path: Path, report: Path) -> None:
    changed(report, lambda name, data: b"<not xml" if name == "word/document.xml" else data)
    with pytest.raises(ValueError, match=r"^report\.docx is damaged, or not a Word document: "):
        text_of(tmp_path, report)
