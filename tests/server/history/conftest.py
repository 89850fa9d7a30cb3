"""Work_dirs with a history: of this user, and of a user whom file modes bind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.history.recorded_work_dir import TASK, RecordedWorkDir, recorded_work_dir


@pytest.fixture
def work(tmp_path: Path) -> Iterator[RecordedWorkDir]:
    """Work_dir of the user that runs the tests."""
    with recorded_work_dir(tmp_path / "data") as opened:
        yield opened
        opened.workspaces.remove(TASK)  # pytest cannot remove deep trees


@pytest.fixture
def unprivileged_work(unprivileged: Path) -> Iterator[RecordedWorkDir]:
    """Work_dir of a server that is not root."""
    with recorded_work_dir(unprivileged / "data") as opened:
        yield opened
        opened.workspaces.remove(TASK)


@pytest.fixture(params=["work", "unprivileged_work"])
def any_work(request: pytest.FixtureRequest) -> RecordedWorkDir:
    """Both work_dirs."""
    found: RecordedWorkDir = request.getfixturevalue(request.param)
    return found
