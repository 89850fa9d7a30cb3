"""Every code block of the documents works as printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.documentation import pages
from tests.documentation.execution import PageRun
from tests.documentation.pages import Block

PAGES = [
    page
    for page in pages.documents()
    if any(isinstance(step, Block) for step in pages.steps(page.read_text("utf-8")))
]
MAX_SKIPPED = 8


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="the blocks use a POSIX shell")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(pages.ROOT).as_posix())
def test_the_blocks_of_a_page_work_as_printed(page: Path, tmp_path: Path) -> None:
    with PageRun(page, tmp_path / "page") as run:
        run.execute()


def test_few_blocks_are_skipped_and_each_has_a_reason() -> None:
    skipped = [
        (f"{page.relative_to(pages.ROOT)}:{line}", reason)
        for page in PAGES
        for line, reason in pages.skipped(page.read_text("utf-8"))
    ]
    for place, reason in skipped:
        print(f"not executed: {place}: {reason}")
    assert all(len(reason.split()) > 1 for _, reason in skipped), skipped
    assert len(skipped) <= MAX_SKIPPED, skipped
