"""Daily usage limits, with a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.server.runners.base import BudgetExceeded, Usage
from beray.server.settings import Settings
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks.usage_limits import Budget
from tests.repositories import Repositories, opened


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    with opened(tmp_path / "db.sqlite3") as repositories:
        yield repositories


def budget(repositories: Repositories, settings: Settings, email: str = "a@b.example") -> Budget:
    """Return the budget of a new task."""
    user_id = repositories.user_id(email)
    task = repositories.tasks.create(user_id, TaskSpec("a goal"), held=False)
    return Budget(repository=repositories.usage, settings=settings, task=task)


@pytest.mark.parametrize(
    ("limit", "usage", "words"),
    [
        ({"daily_tokens": 100}, Usage(1, 60, 50), "100 tokens"),
        ({"daily_requests": 1}, Usage(1, 1, 1), "1 request"),
        ({"daily_requests": 2}, Usage(2, 1, 1), "2 requests"),
        ({"daily_cost_usd": 0.5}, Usage(1, 1, 1, cost_usd=0.51), "0.5 US dollars"),
    ],
)
async def test_a_day_is_spent_by_all_tasks_of_its_user(
    repositories: Repositories, tmp_path: Path, limit: dict[str, Any], usage: Usage, words: str
) -> None:
    settings = Settings(data_dir=tmp_path, **limit)
    with pytest.raises(BudgetExceeded, match=f"{words} for all your tasks of today is reached"):
        await budget(repositories, settings).charge(usage)
    with pytest.raises(BudgetExceeded, match=words):
        await budget(repositories, settings).begin()
    await budget(repositories, settings, "other@b.example").begin()


async def test_a_day_has_seconds(repositories: Repositories, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, daily_seconds=10)
    first = budget(repositories, settings)
    assert await first.begin() == 10
    await first.spend(7.5)
    second = budget(repositories, settings)
    assert await second.begin() == 2.5
    await second.spend(2.5)
    with pytest.raises(BudgetExceeded, match="10 seconds for all your tasks of today"):
        await budget(repositories, settings).begin()
