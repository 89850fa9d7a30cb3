"""PDF files for tests, written by real libraries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from pypdf import PdfReader, PdfWriter
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas


def pdf(path: Path, pages: Sequence[str | None], title: str = "A report") -> Path:
    """Write a PDF with a page for each string. A page for ``None`` contains only an image."""
    canvas = Canvas(str(path))
    canvas.setTitle(title)
    canvas.setAuthor("Ada")
    for text in pages:
        if text is None:
            canvas.drawImage(ImageReader(Image.new("RGB", (60, 60), "grey")), 100, 100)
        else:
            for number, line in enumerate(text.split("\n")):
                canvas.drawString(72, 760 - 14 * number, line)
            canvas.linkURL("https://example.com/a", (72, 700, 200, 720))
        canvas.showPage()
    canvas.save()
    return path


def encrypted(path: Path, password: str, owner: str | None = None) -> Path:
    """Encrypt a PDF in place with AES-256."""
    writer = PdfWriter(clone_from=PdfReader(path))
    writer.encrypt(password, owner, algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    path.write_bytes(buffer.getvalue())
    return path
