"""The format of a document is detected by its structure, not by single words at its start."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.prefabs.documents import encrypted, pdf
from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("document-text")


def real_pdf(*, compressed: bool) -> bytes:
    """Return a PDF with one page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pageCompression=int(compressed))
    canvas.drawString(72, 700, "Words of a page.")
    canvas.save()
    return buffer.getvalue()


PLAIN, PACKED = real_pdf(compressed=False), real_pdf(compressed=True)
JUNK = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n"
SAMPLE = (
    b"# PDF\n\nA small file:\n\n```\n%PDF-1.4\n1 0 obj\n<< >>\nendobj\nstartxref\n9\n%%EOF\n```\n"
)

TABLE: list[tuple[str, bytes, str]] = [
    # PDFs, whatever their name and the bytes before their header
    ("a.pdf", PLAIN, "pdf"),
    ("a.txt", PLAIN, "pdf"),
    ("a.txt", PACKED, "pdf"),
    ("a.txt", b"\xef\xbb\xbf" + PACKED, "pdf"),
    ("a.txt", b"\n\n" + PLAIN, "pdf"),
    ("a.pdf", JUNK + PACKED, "pdf"),
    ("a.txt", JUNK + PACKED, "pdf"),
    ("a.txt", b"x" * 1024 + PACKED, "pdf"),
    ("a.txt", JUNK + PLAIN, "pdf"),
    ("a.pdf", PACKED + b"\n" * 100, "pdf"),
    # text that mentions PDF
    ("a.txt", b"A PDF begins with %PDF-1.7 and ends with %%EOF.\n", "text"),
    ("a.txt", b"%PDF- is the header of a PDF.\n", "text"),
    ("a.md", b"%PDF-1.7\n\nThe header above is explained below: 1 0 objects.\n", "text"),
    ("a.md", SAMPLE, "text"),
    ("a.txt", "Größe: %PDF-1.4 steht am Anfang\n".encode("cp1252"), "text"),
    ("a.txt", "%PDF-1.4 steht am Anfang".encode("utf-16"), "text"),
    ("a.html", b"<html><body><p>%PDF-1.4 is a header</p></body></html>", "html"),
    # text that begins with the signature of another format
    ("a.txt", b"PK is a postal code prefix.\n", "text"),
    ("a.txt", b"PK\n\x03 and more", "text"),
    ("a.txt", b"GIF89a is a format of images.\n", "text"),
    ("a.txt", b"{\\rtf1 is how RTF begins.\n", "text"),
    ("a.txt", b"Use <html> at the start of a page.\n", "text"),
    ("a.txt", b"<html> begins a page.\n", "text"),
    ("README", b"Use <html> at the start of a page.\n", "text"),
    ("page", b"\n<!-- made by hand -->\n<!DOCTYPE html><p>Hello</p>", "html"),
    ("a.txt", b"MZ, BM, II* and \x1b[31mcolours\n", "text"),
]


@pytest.mark.parametrize(("name", "data", "kind"), TABLE, ids=range(len(TABLE)))
def test_the_format_is_detected(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = run_streaming(module.extract(make_call(tmp_path, documents=path)))[0]
    (document,) = result["documents"]
    assert (document["kind"], document["problems"]) == (kind, [])
    text = (tmp_path / "outputs/texts" / document["file"]).read_text()
    assert "Words of a page." in text if kind == "pdf" else text.strip()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"%PDF-1.4 and nothing else", "a.pdf is damaged: "),
        ("a.txt", PACKED[:300], "a.txt is damaged: "),
        ("a.pdf", b"hello", "a.pdf is not a PDF: no %PDF-"),
        ("a.docx", b"hello", "a.docx is not a Word document (DOCX): it is not a ZIP archive"),
        ("a.docx", b"PK\x05\x06" + bytes(18), "a.docx is not a Word document"),
    ],
)
def test_damaged_and_wrong_documents_do_not_fail_the_others(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.txt").write_text("good")
    paths = [tmp_path / name, tmp_path / "good.txt", tmp_path / "missing.pdf"]
    result = run_streaming(module.extract(make_call(tmp_path, documents=paths)))[0]
    assert (result["read"], result["failed"]) == (1, 2)
    assert result["documents"][0]["problems"][0].startswith(reason)
    assert result["documents"][2]["problems"] == ["missing.pdf does not exist or is not a file"]
    known = module.info(make_call(tmp_path, documents=paths[:2]))["documents"]
    assert known[0]["problems"][0].startswith(reason) and known[1]["kind"] == "text"


def test_encrypted_documents_do_not_fail_the_others(tmp_path: Path) -> None:
    locked = encrypted(pdf(tmp_path / "locked.pdf", ["secret"]), "open sesame")
    paths = [locked, pdf(tmp_path / "good.pdf", ["hello"])]
    result = run_streaming(module.extract(make_call(tmp_path, documents=paths)))[0]
    assert [each["problems"] for each in result["documents"]] == [
        ["locked.pdf is encrypted; pass its password in the parameter password"],
        [],
    ]
    known = module.info(make_call(tmp_path, documents=paths))["documents"]
    assert [each["encrypted"] for each in known] == [True, False]


LONG = "only ASCII\n" * 40_000


@pytest.mark.parametrize("word", ["Zürich", "10 €"])
def test_the_first_character_beyond_ascii_may_be_far_from_the_start(
    tmp_path: Path, word: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((LONG + word).encode("cp1252"))
    run_streaming(module.extract(make_call(tmp_path, documents=path)))
    assert (tmp_path / "outputs/texts/a.txt").read_text("utf-8").endswith(word)
