"""PDF files: text of pages, and reports about damaged and encrypted files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.prefabs.documents import encrypted, pdf
from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("document-text")


def extracted(tmp_path: Path, *paths: Path, **parameters: Any) -> dict[str, Any]:
    """Extract documents, and return the result."""
    return run_streaming(module.extract(make_call(tmp_path, documents=paths), **parameters))[0]


def output_text(tmp_path: Path, name: str) -> str:
    """Return the content of an output file."""
    return (tmp_path / "outputs/texts" / name).read_text(encoding="utf-8")


def test_pages_are_yielded_while_they_are_read(tmp_path: Path) -> None:
    path = pdf(tmp_path / "report.pdf", ["First page", "Second page"])
    result, content, progress = run_streaming(module.extract(make_call(tmp_path, documents=path)))
    (document,) = result["documents"]
    assert (document["pages"], document["title"], document["author"]) == (2, "A report", "Ada")
    assert document["created"].startswith("20")
    assert document["problems"] == []
    assert [(each["page"], each["text"]) for each in content] == [
        (1, "First page\n"),
        (2, "\nSecond page\n"),
    ]
    assert "".join(each["text"] for each in content) == output_text(tmp_path, "report.txt")
    assert document["characters"] == len(output_text(tmp_path, "report.txt"))
    assert result["complete_in_pieces"]
    assert [each.fraction for each in progress] == [0, 0.5, 1]
    assert progress[-1].message == "report.pdf, page 2 of 2"


def test_selected_pages(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", [f"this is {number}" for number in range(1, 8)])
    extracted(tmp_path, path, pages="6-, 2-3,3", page_marks=True)
    text = "\n".join(f"[page {number}]\n\nthis is {number}\n" for number in (2, 3, 6, 7))
    assert output_text(tmp_path, "a.txt") == text


@pytest.mark.parametrize("pages", ["x", "1-2-3", "-", "1,,2", "9999999999"])
def test_invalid_page_ranges_are_rejected(tmp_path: Path, pages: str) -> None:
    with pytest.raises(ValueError, match="neither a page nor a range"):
        extracted(tmp_path, pdf(tmp_path / "a.pdf", ["x"]), pages=pages)


def test_a_selection_without_existing_pages_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^pages: '5-9' selects no page of a\.pdf, whose last page is 1$"
    ):
        extracted(tmp_path, pdf(tmp_path / "a.pdf", ["x"]), pages="5-9")


def test_links_are_kept_if_requested(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", ["hello"])
    extracted(tmp_path, path, keep_links=True)
    assert output_text(tmp_path, "a.txt") == "hello\n\nhttps://example.com/a\n"


def test_an_encrypted_pdf_requires_its_password(tmp_path: Path) -> None:
    path = encrypted(pdf(tmp_path / "a.pdf", ["secret words"]), "open sesame")
    with pytest.raises(
        ValueError, match=r"^a\.pdf is encrypted; pass its password in the parameter password$"
    ):
        extracted(tmp_path, path)
    with pytest.raises(ValueError, match=r"a\.pdf is encrypted, and the password is wrong"):
        extracted(tmp_path, path, password="guess")
    extracted(tmp_path, path, password="open sesame")
    assert "secret words" in output_text(tmp_path, "a.txt")
    (known,) = module.info(make_call(tmp_path, documents=path))["documents"]
    assert known["encrypted"] and known["pages"] is None


def test_a_pdf_with_only_an_owner_password_requires_none(tmp_path: Path) -> None:
    path = encrypted(pdf(tmp_path / "a.pdf", ["free words"]), "", "owner")
    extracted(tmp_path, path)
    assert "free words" in output_text(tmp_path, "a.txt")


def test_pages_without_text_are_reported(tmp_path: Path) -> None:
    result = extracted(tmp_path, pdf(tmp_path / "scan.pdf", [None, None]))
    assert result["documents"][0]["problems"] == [
        "no page has text; text in images, such as scanned pages, is not recognised"
    ]
    mixed = extracted(tmp_path, pdf(tmp_path / "mixed.pdf", ["words", None]))
    assert "1 of 2 pages (2) have no text" in mixed["documents"][0]["problems"][0]


def test_a_damaged_pdf_does_not_fail_the_others(tmp_path: Path) -> None:
    good = pdf(tmp_path / "good.pdf", ["words"])
    cut = tmp_path / "cut.pdf"
    cut.write_bytes(b"%PDF-1.7\nnothing follows")
    fake = tmp_path / "fake.pdf"
    fake.write_text("I am text")
    empty = tmp_path / "empty.pdf"
    empty.touch()
    result = extracted(tmp_path, cut, good, fake, empty)
    assert (result["read"], result["failed"]) == (1, 3)
    assert [each["file"] for each in result["documents"]] == [None, "good.txt", None, None]
    problems = [each["problems"][0] for each in result["documents"] if each["problems"]]
    assert problems[0].startswith("cut.pdf is damaged: ")
    assert problems[1:] == [
        "fake.pdf is not a PDF: no %PDF- in its first 1,024 bytes",
        "empty.pdf is empty",
    ]
    assert str(tmp_path) not in str(result)


def test_a_pdf_with_missing_bytes_yields_text_or_a_message(tmp_path: Path) -> None:
    whole = pdf(tmp_path / "a.pdf", ["words and words"]).read_bytes()
    for place in range(20, len(whole), 97):
        (tmp_path / "b.pdf").write_bytes(whole[:place] + whole[place + 40 :])
        try:
            result = extracted(tmp_path, tmp_path / "b.pdf")
        except ValueError as error:
            assert "b.pdf" in str(error)
        else:
            assert result["read"] == 1


def test_a_page_that_expands_to_too_much_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(_one_page(zlib.compress(b" " * 200_000_000, 9)))
    result = extracted(tmp_path, tmp_path / "bomb.pdf")
    assert result["documents"][0]["problems"][0].startswith("page 1 cannot be read")


def test_pieces_are_limited_and_files_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_CONTENT_BYTES", 1000)
    path = tmp_path / "a.txt"
    path.write_text("ä" * 100_000)
    result, content, _ = run_streaming(module.extract(make_call(tmp_path, documents=path)))
    assert content == [] and not result["complete_in_pieces"]
    assert output_text(tmp_path, "a.txt") == "ä" * 100_000


def test_text_only_in_files(tmp_path: Path) -> None:
    call = make_call(tmp_path, documents=pdf(tmp_path / "a.pdf", ["words"]))
    result, content, _ = run_streaming(module.extract(call, in_pieces=False))
    assert (content, result["complete_in_pieces"]) == ([], False)
    assert output_text(tmp_path, "a.txt") == "words\n"


def _one_page(packed: bytes) -> bytes:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Resources<<>>/Contents 4 0 R>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n" % len(packed) + packed + b"\nendstream",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj" % number + content + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 5\n0000000000 65535 f \n" + table + end
