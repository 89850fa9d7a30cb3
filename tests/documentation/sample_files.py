"""Input files of the documents, written to the current directory.

python -m tests.documentation.sample_files NAME…
"""

from __future__ import annotations

import sys
from pathlib import Path


def write(name: str) -> None:
    """Write a file whose content fits the ending of its name."""
    path = Path(name)
    match path.suffix:
        case ".pdf":
            from reportlab.pdfgen.canvas import Canvas

            canvas = Canvas(name)
            for number in range(1, 6):
                canvas.drawString(72, 720, f"Page {number} of the report")
                canvas.showPage()
            canvas.save()
        case ".docx":
            import docx

            document = docx.Document()
            document.add_heading("Report", 1)
            document.add_paragraph("A paragraph of the report.")
            document.save(name)
        case ".csv":
            path.write_text("city,age,amount\nOslo,30,5\nRome,12,7\nOslo,44,9\n", "utf-8")
        case ".xlsx" | ".parquet":
            import polars

            frame = polars.DataFrame({"month": ["2025-01", "2025-02"], "amount": [5, 7]})
            if path.suffix == ".xlsx":
                frame.write_excel(path)
            else:
                frame.write_parquet(path)
        case ".jpg" | ".png" | ".tif":
            from PIL import Image

            Image.new("RGB", (320, 200), "teal").save(path)
        case other:
            raise ValueError(f"no sample for {name!r} with the ending {other!r}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(argument)
