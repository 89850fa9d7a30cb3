"""Chats that continue on the successor of the local server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("the local server needs POSIX", allow_module_level=True)

from beray import local_server
from tests.cli.cli_terminal import Terminal


@pytest.fixture(autouse=True)
def no_server_stays(own_home: Path) -> Iterator[None]:
    yield
    local_server.stop()


def test_the_next_message_is_sent_to_the_successor() -> None:
    with Terminal(["chat"]) as terminal:
        terminal.expect("you> ")
        terminal.type("!echo o''ne; echo kept > file\n")
        terminal.expect("one")
        terminal.expect("you> ")
        assert local_server.stop()
        terminal.type("!cat file; echo t''wo\n")
        terminal.expect("kept\r\ntwo\r\n")
        terminal.expect("you> ")
        terminal.type("/quit\n")
        assert "<exit 0>" in terminal.end()
