"""Checkpoints of work_dirs against a shadow git repository, and delays of other tasks' events.

The contender runs ``git add -A && git write-tree`` in a repository outside of the work_dir. It
records less: no ignored files, no nested repositories, no empty directories.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.tables import BenchmarkRow, interleaved, ratio
from beray.server.objects.local import LocalObjectStore
from beray.server.objects.signing import UrlSigner
from beray.server.storage.blobs import BlobRepository
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.storage.database import Database
from beray.server.storage.objects import ObjectRepository
from beray.server.workspace.history.file_diffs import count_changed_lines
from beray.server.workspace.history.service import HistoryLimits, WorkDirHistory
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer

TASK = 1
USER = 1
FILES = 50_000
LARGE_BYTES = 1024**3
APPENDED_BYTES = 10 * 1024 * 1024
MANY_FILES = 200_000
TICK_SECONDS = 0.02
GOAL_SECONDS = 0.1
GOAL_BYTES = 1_000_000
LAYOUTS = {"one directory": 1, "500 directories": 500}


class RecordedWorkDir:
    """Work_dir with a history and a shadow git repository."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.objects = directory / "objects"
        store = LocalObjectStore(
            folder=self.objects,
            objects=ObjectRepository(database=database),
            signer=UrlSigner(b"k" * 32, "beray"),
        )
        workspaces = Workspaces(directory / "workspaces")
        self.history = WorkDirHistory(
            workspaces=workspaces,
            checkpoints=CheckpointRepository(database=database),
            blobs=BlobRepository(database=database),
            objects=store,
            limits=HistoryLimits(64 * 1024**3, 64 * 1024**3),
            has_space=lambda _: True,
            count_lines=partial(count_changed_lines, max_bytes=4 * 1024 * 1024),
        )
        self.path = workspaces.create(TASK)
        self._git_directory = directory / "shadow"
        self._git("init", "--quiet")

    def record(self, changed: Path | None = None) -> None:
        """Record a checkpoint: of all files, or of the one that has changed."""
        paths = None
        if changed is not None:
            paths = [tuple(map(os.fsencode, changed.relative_to(self.path).parts))]
        self.history.record(TASK, USER, seq=0, reason="step", paths=paths)

    def record_with_git(self) -> None:
        """Record the files in the shadow repository."""
        self._git("add", "-A")
        self._git("write-tree")

    def stored_bytes(self) -> int:
        """Return the size of the stored contents."""
        return sum(file.stat().st_size for file in self.objects.rglob("*") if file.is_file())

    def _git(self, *arguments: str) -> None:
        environ = {**os.environ, "GIT_DIR": str(self._git_directory), "GIT_WORK_TREE": "."}
        subprocess.run(
            ["git", *arguments], cwd=self.path, env=environ, check=True, capture_output=True
        )


@contextmanager
def recorded_work_dir() -> Iterator[RecordedWorkDir]:
    """Open an empty work_dir with a history."""
    with tempfile.TemporaryDirectory() as name:
        database = Database(Path(name) / "beray.sqlite3")
        try:
            yield RecordedWorkDir(Path(name), database)
        finally:
            database.close()


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return ratios of durations to those of git and to the goals, of sizes, and of delays."""
    rows: list[BenchmarkRow] = []
    for layout, directories in LAYOUTS.items():
        rows += _one_change(layout, directories, rounds)
    rows.append(_append())
    return [*rows, *_delay(rounds)]


def _one_change(layout: str, directories: int, rounds: int) -> list[BenchmarkRow]:
    """Measure a checkpoint after the change of one of ``FILES`` files."""
    with recorded_work_dir() as work:
        files = [
            work.path / (f"d{number % directories:03}" if directories > 1 else ".") / f"f{number}"
            for number in range(FILES)
        ]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"content of {file.name}\n" * 5)
        started = time.perf_counter()
        work.record()
        first = time.perf_counter() - started
        started = time.perf_counter()
        work.record_with_git()
        first_with_git = time.perf_counter() - started
        numbers = itertools.count()
        added: list[int] = []

        def change() -> Path:
            file = files[random.randrange(FILES)]
            file.write_text(f"change {next(numbers)}\n")
            return file

        def ours() -> float:
            file, before = change(), work.stored_bytes()
            started = time.perf_counter()
            work.record(file)
            seconds = time.perf_counter() - started
            added.append(work.stored_bytes() - before)
            return seconds

        def with_git() -> float:
            change()
            started = time.perf_counter()
            work.record_with_git()
            seconds = time.perf_counter() - started
            work.record()
            return seconds

        figures = interleaved({"ours": ours, "git": with_git}, rounds)
    whole = f"first checkpoint of {FILES:,} files, {layout}"
    what = f"checkpoint, 1 of {FILES:,} files changed, {layout}"
    return [
        BenchmarkRow(whole, "git", first / first_with_git, "≤ 1.0"),
        BenchmarkRow(what, "git", ratio(figures, "ours", "git"), "≤ 1.0"),
        BenchmarkRow(what, "100 ms", median(figures["ours"]) / GOAL_SECONDS, "≤ 1.0"),
        BenchmarkRow(f"{what}: stored bytes", "1 MB", median(added) / GOAL_BYTES, "< 1.0"),
    ]


def _append() -> BenchmarkRow:
    """Measure the stored bytes after appending to a large file."""
    with recorded_work_dir() as work:
        file = work.path / "large"
        with file.open("wb") as large:
            for _ in range(LARGE_BYTES // APPENDED_BYTES):
                large.write(random.randbytes(APPENDED_BYTES))
        work.record()
        before = work.stored_bytes()
        with file.open("ab") as large:
            large.write(random.randbytes(APPENDED_BYTES))
        work.record(file)
        added = work.stored_bytes() - before
    return BenchmarkRow(
        "stored bytes, 10 MiB appended to 1 GiB", "10 MiB", added / APPENDED_BYTES, "≤ 1.5"
    )


def _delay(rounds: int) -> list[BenchmarkRow]:
    """Measure the delay of a task's events while a chat with many files has checkpoints."""
    with ExitStack() as stack:
        on = stack.enter_context(_server_with_many_files())
        off = stack.enter_context(_server_with_many_files(BERAY_HISTORY_BYTES="0"))
        figures = interleaved({"ours": on.worst_delay, "off": off.worst_delay}, rounds)
    what = f"delay (p99) of other tasks' events, checkpoints of {MANY_FILES:,} files"
    return [
        BenchmarkRow(what, "100 ms", median(figures["ours"]) / GOAL_SECONDS, "≤ 1.0"),
        BenchmarkRow(what, "history turned off", ratio(figures, "ours", "off"), ""),
    ]


class _ChatWithManyFiles:
    """Chat with many files, and another user whose task reports the time."""

    def __init__(self, server: RunningServer) -> None:
        self._chat_user, self._other_user = server.sign_up(), server.sign_up()
        chat = self._chat_user.open_chat()
        work_dir = server.data_dir / "workspaces" / str(chat["id"])
        for number in range(MANY_FILES):
            file = work_dir / f"d{number % 500:03}" / f"f{number}"
            file.parent.mkdir(exist_ok=True)
            file.write_text(str(number))
        self._answer()

    def worst_delay(self) -> float:
        """Return the p99 of the delays of a task's output while the chat answers."""
        delays: list[float] = []
        task = self._other_user.create_task(
            "!python3 -u -c \"import time\nwhile True: print(repr(time.time())); "
            f"time.sleep({TICK_SECONDS})\""
        )  # fmt: skip

        def watch() -> None:
            rest = ""
            for event in self._other_user.stream_task_updates(task["id"]):
                now = time.time()
                if event["type"] == "AGENT_EVENT_TEXT_CHUNK":
                    *lines, rest = (rest + event["text"]).split("\n")
                    delays.extend(now - float(line) for line in lines)

        watching = threading.Thread(target=watch)
        watching.start()
        self._answer()
        self._other_user.stop_task(task["id"])
        watching.join()
        delays.sort()
        return delays[int(0.99 * len(delays))]

    def _answer(self) -> None:
        """Let the chat change one file, with checkpoints before and after it."""
        chat = self._chat_user.send_chat_message(0, f"!echo {time.time()} > d001/f1; sleep 3")
        self._chat_user.wait(chat["id"], until_input=True, after=chat["last_seq"])


@contextmanager
def _server_with_many_files(**settings: str) -> Iterator[_ChatWithManyFiles]:
    with (
        tempfile.TemporaryDirectory() as name,
        RunningServer.start(Path(name) / "data", settings) as server,
    ):
        yield _ChatWithManyFiles(server)
