"""Fixtures of the dashboard's tests: waits for Textual, and a directory with files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.dashboard_pilot import at_rest


@pytest.fixture(autouse=True)
def exact_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.app.wait_for_idle", at_rest)
    monkeypatch.setattr("textual.pilot.wait_for_idle", at_rest)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that files are chosen from and saved to."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "sales.csv").write_text("shop,day\n1,2\n")
    (folder / "notes.txt").write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.CSV").write_text("a\n")
    return folder
