"""What the dashboard remembers: nothing is lost to a crash, to damage or to another dashboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beray import config
from beray.config import Target
from tui.state import json_store, saved_state
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState, account_of

HERE, THERE = "https://here ada", "https://there ada"
TOOLS = [{"docs": {"url": "https://example.org/mcp"}}]
ORDER = TaskDraft("!ls\necho \ud800\x1b[2J", TOOLS, (Path("/a folder"), Path("/b")))


@pytest.fixture(autouse=True)
def patient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the last changes as long as a loaded machine needs."""
    monkeypatch.setattr(json_store, "CLOSE_SECONDS", 30.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dashboard"


@pytest.fixture
def user_state(folder: Path) -> Iterator[UserState]:
    made = UserState(folder)
    yield made
    made.close()


def until(seen: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.005)


def goals(user_state: UserState) -> list[str]:
    return [order.goal for order in user_state.history()]


def reopen(user_state: UserState) -> UserState:
    """Closed, and opened as by the next start."""
    user_state.close()
    return UserState(user_state.folder)


def test_everything_is_there_at_the_next_start(user_state: UserState, folder: Path) -> None:
    user_state.add_to_history(ORDER)
    user_state.keep_draft(HERE, ORDER)
    user_state.mark_seen(HERE, 7, 12)
    user_state.set("theme", "dark")
    reopened = reopen(user_state)
    assert reopened.history() == (TaskDraft(ORDER.goal, TOOLS),)
    assert reopened.draft(HERE) == ORDER
    assert reopened.draft(THERE) is None
    assert reopened.seen(HERE) == {7: 12} and reopened.seen(THERE) == {}
    assert reopened.get("theme") == "dark" and reopened.get("other", "x") == "x"
    reopened.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_only_the_user_can_read_any_of_it(user_state: UserState, folder: Path) -> None:
    user_state.add_to_history(ORDER)
    user_state.keep_draft(HERE, ORDER)
    user_state.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} >= {"history.json", "drafts.json"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_dashboard_that_remembers_nothing_leaves_nothing(
    user_state: UserState, folder: Path
) -> None:
    assert goals(user_state) == [] and user_state.seen(HERE) == {}
    user_state.close()
    assert not folder.exists()


def test_changes_are_written_together_by_the_thread(
    user_state: UserState, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[str] = []
    write = config.write_private_file

    def recorded(path: Path, text: str) -> None:
        writers.append(threading.current_thread().name)
        write(path, text)

    monkeypatch.setattr(config, "write_private_file", recorded)
    assert user_state.draft(HERE) is None
    for length in range(300):
        user_state.keep_draft(HERE, TaskDraft("x" * length))
    until(lambda: (folder / "drafts.json").exists())
    until(lambda: json.loads((folder / "drafts.json").read_text())[HERE]["goal"] == "x" * 299)
    assert set(writers) == {"beray-memory"} and len(writers) < 100
    user_state.keep_draft(HERE, TaskDraft("the end"))
    user_state.close()
    assert "the end" in (folder / "drafts.json").read_text()


def test_the_history_has_an_end_and_no_goal_twice_in_a_row() -> None:
    history: saved_state.History = ()
    for goal in ("a", "a", "b", "a", *map(str, range(600))):
        history = saved_state.with_goal(history, TaskDraft(goal, attachments=(Path("/x"),)))
    assert [order.goal for order in history] == [str(number) for number in range(100, 600)]
    assert history[0].attachments == ()
    assert saved_state.with_goal(history, TaskDraft("599", TOOLS))[-1].tools == TOOLS
    for number in range(20):
        history = saved_state.with_goal(history, TaskDraft(f"{number}" * 150_000))
    assert sum(len(order.goal) for order in history) <= saved_state.MAX_GOAL_CHARACTERS
    assert history[-1].goal.startswith("19")


def test_two_dashboards_at_once_keep_what_the_other_adds(
    user_state: UserState, folder: Path
) -> None:
    other = UserState(folder)
    assert goals(user_state) == goals(other) == []
    for number in range(20):
        user_state.add_to_history(TaskDraft(f"one {number}"))
        other.add_to_history(TaskDraft(f"two {number}"))
        user_state.mark_seen(HERE, number, 5)
        other.mark_seen(HERE, number, 3 + number)
        time.sleep(0.01)
    user_state.keep_draft(HERE, TaskDraft("mine"))
    other.keep_draft(THERE, TaskDraft("theirs"))
    user_state.close()
    other.close()
    reopened = UserState(folder)
    assert sorted(goals(reopened)) == sorted(
        f"{who} {n}" for who in ("one", "two") for n in range(20)
    )
    assert reopened.seen(HERE) == {number: max(5, 3 + number) for number in range(20)}
    assert reopened.draft(HERE) == TaskDraft("mine") and reopened.draft(THERE) == TaskDraft(
        "theirs"
    )
    reopened.close()


def test_a_draft_of_another_dashboard_is_not_taken_back_with_ones_own(
    user_state: UserState,
) -> None:
    user_state.keep_draft(HERE, TaskDraft("mine"))
    other = reopen(user_state)
    mine = UserState(user_state.folder)
    assert mine.draft(HERE) == TaskDraft("mine")
    other.keep_draft(HERE, TaskDraft("theirs"))
    other.close()
    mine.drop_draft(HERE)
    assert mine.draft(HERE) is None
    mine.close()
    reopened = UserState(user_state.folder)
    assert reopened.draft(HERE) == TaskDraft("theirs")
    reopened.drop_draft(HERE)
    reopened = reopen(reopened)
    assert reopened.draft(HERE) is None
    reopened.close()


def test_an_order_on_its_way_is_not_offered_and_not_lost(
    user_state: UserState, folder: Path
) -> None:
    user_state.keep_draft(HERE, TaskDraft("do it"))
    user_state.submitted(HERE, TaskDraft("do it"))
    assert user_state.draft(HERE) is None
    user_state.drop_draft(HERE)  # an empty composer that was closed meanwhile
    until(lambda: (folder / "history.json").exists())
    crashed = UserState(folder)
    assert crashed.draft(HERE) == TaskDraft("do it") and goals(crashed) == ["do it"]
    crashed.close()
    user_state.refused(HERE, TaskDraft("do it"))
    assert user_state.draft(HERE) == TaskDraft("do it")
    user_state.submitted(HERE, TaskDraft("do it"))
    user_state.keep_draft(HERE, TaskDraft("the next one"))
    user_state.refused(HERE, TaskDraft("do it"))
    assert user_state.draft(HERE) == TaskDraft("the next one")
    user_state.submitted(HERE, TaskDraft("run again"))  # past the composer
    user_state.created(HERE, TaskDraft("run again"))
    assert user_state.draft(HERE) == TaskDraft("the next one")
    user_state.submitted(HERE, TaskDraft("the next one"))
    user_state.created(HERE, TaskDraft("the next one"))
    reopened = reopen(user_state)
    assert reopened.draft(HERE) is None
    assert goals(reopened) == ["do it", "run again", "the next one"]
    reopened.close()


def test_what_was_seen_never_goes_back_until_the_task_is_gone(user_state: UserState) -> None:
    user_state.mark_seen(HERE, 1, 10)
    user_state.mark_seen(HERE, 1, 4)
    user_state.mark_seen(THERE, 1, 2)
    assert user_state.seen(HERE) == {1: 10}
    user_state.forget(HERE, 1)
    user_state.forget(HERE, 99)
    reopened = reopen(user_state)
    assert reopened.seen(HERE) == {} and reopened.seen(THERE) == {1: 2}
    reopened.close()
    many: saved_state.Seen = {HERE: dict.fromkeys(range(saved_state.MAX_SEEN_TASKS), 1)}
    kept = saved_state.with_seen(many, HERE, saved_state.MAX_SEEN_TASKS, 1)[HERE]
    assert len(kept) == saved_state.MAX_SEEN_TASKS and 0 not in kept


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"7", b'"x"', b"[7]", b'{"a": 7}',
        b'[{"goal": 7}]', b'{"a": {"goal": "x", "tools": [7]}}', b'{"a": {"1": Infinity}}',
        b'{"a": {"goal": "x", "attachments": 5}}', b"9" * 5000,
    ],
)  # fmt: skip
def test_damaged_files_are_set_aside_and_that_is_said_once(folder: Path, damage: bytes) -> None:
    folder.mkdir()
    names = ("history", "drafts", "seen", "settings")
    for name in names:
        (folder / f"{name}.json").write_bytes(damage)
    user_state, told = UserState(folder), list[str]()
    user_state.set_problem_listener(told.append)
    assert goals(user_state) == [] and user_state.draft(HERE) is None and user_state.seen("a") == {}
    user_state.add_to_history(TaskDraft("new"))
    user_state.keep_draft(HERE, TaskDraft("new"))
    user_state.mark_seen(HERE, 1, 2)
    user_state.set("theme", "dark")
    reopened = reopen(user_state)
    reopened.set_problem_listener(told.append)
    assert goals(reopened) == ["new"] and reopened.draft(HERE) == TaskDraft("new")
    assert reopened.seen(HERE) == {1: 2} and reopened.get("theme") == "dark"
    aside = {path.stem for path in folder.glob("*.damaged")}
    assert aside and len(told) == len(aside)
    assert all((folder / f"{name}.damaged").read_bytes() == damage for name in aside)
    reopened.close()


def test_of_a_file_that_is_damaged_in_part_the_rest_is_kept(folder: Path) -> None:
    folder.mkdir()
    (folder / "history.json").write_text('[{"goal": "good"}, {"goal": 7}, {"goal": "too"}]')
    user_state, told = UserState(folder), list[str]()
    user_state.set_problem_listener(told.append)
    assert goals(user_state) == ["good", "too"]
    until(lambda: told)
    reopened = reopen(user_state)
    assert goals(reopened) == ["good", "too"] and "history.damaged" in told[0]
    reopened.close()


def test_where_nothing_can_be_written_that_is_said_once_and_the_rest_works(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    user_state, told = UserState(blocked / "dashboard"), list[str]()
    user_state.set_problem_listener(told.append)
    for number in range(5):
        user_state.add_to_history(TaskDraft(str(number)))
        time.sleep(0.05)
    until(lambda: told)
    assert goals(user_state) == ["0", "1", "2", "3", "4"]
    user_state.close()
    assert len(told) == 1 and str(blocked) in told[0]


def test_what_could_not_be_written_is_written_when_it_can_be(
    user_state: UserState, tmp_path: Path, folder: Path
) -> None:
    folder.write_text("in the way")
    told: list[str] = []
    user_state.set_problem_listener(told.append)
    user_state.add_to_history(TaskDraft("one"))
    until(lambda: told)
    folder.unlink()
    until(lambda: (folder / "history.json").exists())
    assert "one" in (folder / "history.json").read_text()


WRITER = """
import sys, time
from pathlib import Path
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState
user_state = UserState(Path(sys.argv[1]))
for number in range(100_000):
    user_state.add_to_history(TaskDraft(f"goal {number} " + "x" * 20_000))
    user_state.keep_draft("here", TaskDraft(f"draft {number} " + "x" * 150_000))
    time.sleep(0.001)
"""


def stored_draft(folder: Path) -> int:
    """Return the number of the draft in the file, or -1 if no draft is stored."""
    try:
        drafts = json.loads((folder / "drafts.json").read_text())
    except FileNotFoundError:
        return -1
    return int(drafts["here"]["goal"].split()[1])


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
@pytest.mark.parametrize("versions", [1, 2, 4])
def test_a_kill_loses_nothing_that_is_in_the_files(folder: Path, versions: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
    stored = -1
    for _ in range(versions):
        before = stored
        until(lambda before=before: stored_draft(folder) > before, 30)  # type: ignore[misc]
        stored = stored_draft(folder)
    writer.kill()
    writer.wait()
    user_state, told = UserState(folder), list[str]()
    user_state.set_problem_listener(told.append)
    kept = user_state.draft("here")
    assert kept is not None and told == []
    assert int(kept.goal.split()[1]) >= stored
    user_state.keep_draft("here", TaskDraft("and on"))
    user_state.add_to_history(TaskDraft("and on"))
    user_state.close()
    assert list(folder.glob(".*.json.*")) == []
    assert goals(reopen(user_state))[-1] == "and on"


def test_accounts_are_told_apart() -> None:
    first = Target("https://a.example", "work", "secret", "ada@example.test")
    assert account_of(first) != account_of(Target("https://b.example", "work", "secret", "ada@a"))
    assert account_of(first) != account_of(Target("https://a.example", "work", "s", "bob@a"))
    assert account_of(first) == account_of(Target("https://a.example", "x", "new", first.email))
    assert "secret" not in account_of(first)
    # Its port is another one after each start.
    here = [Target(f"http://127.0.0.1:{port}", "local", "t", embedded=True) for port in (1, 2)]
    assert account_of(here[0]) == account_of(here[1])
