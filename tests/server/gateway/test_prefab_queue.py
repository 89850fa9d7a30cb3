"""Sharing of slots between the callers of prefabs on a shared server."""

from __future__ import annotations

import threading
from pathlib import Path

from beray.server.prefabs import archives
from beray.testing import RunningServer
from tests.gateway_support import refusal
from tests.server.gateway.prefab_calls import COUNT, MANIFEST, Caller, add, call
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import sleepers, until


def test_a_caller_with_endless_calls_leaves_a_slot_and_a_full_queue_refuses(
    tmp_path: Path,
) -> None:
    with RunningServer.start(
        tmp_path / "data",
        BERAY_PUBLIC_URL="https://beray.example",
        BERAY_PREFAB_AUTHORS="author@example.test",
        BERAY_PREFAB_SLOTS="2",
        BERAY_USER_QUEUED="3",
    ) as server:
        with server.sign_up("author@example.test") as author:
            added = add(author, archives.pack(write_prefab(tmp_path / "p", COUNT, MANIFEST)))
        assert added.status_code == 201, added.text
        greedy, other = Caller.new(server), Caller.new(server)
        marks = ["98881", "98882", "98883"]
        calls = [call("sleep", mark=mark) for mark in marks]
        batch = threading.Thread(target=greedy.run, args=calls)
        batch.start()
        try:
            until(lambda: sleepers(marks[0]))
            refused = greedy.run(call("outputs"), call("outputs"))
            assert refusal(refused) == (429, "QUEUE_FULL")
            assert refused.json()["detail"]["limit"] == 3
            assert int(refused.headers["Retry-After"]) > 0
            other.result(call("outputs"))
            assert not sleepers(marks[1]) and not sleepers(marks[2])
        finally:
            server.stop()
            batch.join()
            greedy.account.close()
            other.account.close()
