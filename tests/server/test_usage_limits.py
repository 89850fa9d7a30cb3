"""Daily usage limits, with a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.server.runners.base import BudgetExceeded, Usage
from beray.server.settings import Settings
from beray.server.storage.store import Store, TaskSpec
from beray.server.storage.tables import Task
from beray.server.tasks.usage_limits import Budget


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db.sqlite3")
    yield store
    store.close()


def task(store: Store, email: str = "a@b.example") -> Task:
    user = store.user_by_email(email) or store.add_user(email, None)
    return store.add_task(user.id, TaskSpec("a goal"), held=False)


@pytest.mark.parametrize(
    ("limit", "usage", "words"),
    [
        ({"daily_tokens": 100}, Usage(1, 60, 50), "100 tokens"),
        ({"daily_requests": 2}, Usage(2, 1, 1), "2 requests"),
        ({"daily_cost_usd": 0.5}, Usage(1, 1, 1, cost_usd=0.51), "0.5 US dollars"),
    ],
)
async def test_a_day_is_spent_by_all_tasks_of_its_user(
    store: Store, tmp_path: Path, limit: dict[str, Any], usage: Usage, words: str
) -> None:
    settings = Settings(data_dir=tmp_path, **limit)
    with pytest.raises(BudgetExceeded, match=f"{words} for all your tasks of today is reached"):
        await Budget(store, settings, task(store)).charge(usage)
    with pytest.raises(BudgetExceeded, match=words):
        await Budget(store, settings, task(store)).begin()
    await Budget(store, settings, task(store, "other@b.example")).begin()


async def test_a_day_has_seconds(store: Store, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, daily_seconds=10)
    first = Budget(store, settings, task(store))
    assert await first.begin() == 10
    await first.spend(7.5)
    second = Budget(store, settings, task(store))
    assert await second.begin() == 2.5
    await second.spend(2.5)
    with pytest.raises(BudgetExceeded, match="10 seconds for all your tasks of today"):
        await Budget(store, settings, task(store)).begin()
