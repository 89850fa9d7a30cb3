"""Prefab that calls another prefab: example of docs/guides/gateway.md."""

from __future__ import annotations

import tempfile
from pathlib import Path

from beray.gateway import GatewayClient
from beray.prefab import Call, InputError


def count(call: Call) -> dict[str, int]:
    """Count the words of ``documents``, and write a report with a line for each document."""
    lines, total = [], 0
    # Without arguments, the client reads BERAY_GATEWAY_URL and X_INTERNAL_TOKEN, which are set for
    # functions with "gateway = true". The published SDK requires them as arguments.
    with GatewayClient() as gateway, tempfile.TemporaryDirectory() as directory:
        for document in call.files["documents"]:
            url = gateway.upload_input_file(document)
            result = gateway.run("document-text", "latest", "extract", files={"documents": [url]})
            if not result.is_success():
                raise InputError(f"{document.name}: {(result.error or {}).get('message')}")
            words = 0
            for number, text_url in enumerate(result.get_file_urls("texts")):
                path = Path(directory, f"{len(lines)}-{number}.txt")
                gateway.download_file(text_url, path)
                words += len(path.read_text(encoding="utf-8").split())
            lines.append(f"{words} {document.name}\n")
            total += words
    call.output("report", "words.txt").write_text("".join(lines), encoding="utf-8")
    return {"words": total}
