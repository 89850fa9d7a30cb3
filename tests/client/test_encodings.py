"""Encoded answers: undone, and noticed where they end in the middle."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from beray import APIError, BeRayClient, ConnectionFailed, InvalidResponseError, OutcomeUnknown
from beray.http.decompression import Inflater
from beray.testing import Answer, FaultServer

TASKS = [{"id": number, "goal": f"goal {number}", "status": "RUNNING"} for number in range(5000)]
BODY = json.dumps(TASKS).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


FORMS = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "x-gzip": (" X-GZIP ", gzip.compress(BODY)),
    "members": ("gzip", gzip.compress(BODY[:777]) + gzip.compress(BODY[777:])),
    "padded": ("gzip", gzip.compress(BODY) + bytes(100)),
    "deflate": ("deflate", zlib.compress(BODY)),
    "raw deflate": ("deflate", raw_deflate(BODY)),
}


def encoded(form: str, framing: Any, cut: int = 0, **options: Any) -> Answer:
    name, body = FORMS[form]
    headers = {"Content-Encoding": name}
    return Answer(body[: len(body) - cut], headers=headers, framing=framing, **options)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("form", FORMS)
def test_an_encoded_answer_is_read(form: str, framing: str) -> None:
    with FaultServer([encoded(form, framing)] * 2) as server:
        client = BeRayClient(server.url)
        assert client.list_tasks() == TASKS
        assert client.get_file_content(1, "f").content == BODY
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("form", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 500])
def test_an_encoded_answer_that_an_orderly_close_cuts_is_asked_for_again(
    form: str, cut: int
) -> None:
    if form == "raw deflate" and cut == 500:
        cut = 2
    with FaultServer([encoded(form, "close", cut), encoded(form, "chunked")]) as server:
        assert BeRayClient(server.url).list_tasks() == TASKS
        assert len(server.requests) == 2


@pytest.mark.parametrize("framing", ["close", "chunked"])
@pytest.mark.parametrize("form", ["gzip", "deflate", "raw deflate"])
def test_an_encoded_answer_that_stays_cut_is_a_broken_connection(form: str, framing: str) -> None:
    # The chunks end in order: what is cut is what was put into them.
    with FaultServer([encoded(form, framing, 1)] * 2) as server:
        client = BeRayClient(server.url, max_retries=0)
        with pytest.raises(ConnectionFailed, match="before the answer was complete"):
            client.list_tasks()
        with pytest.raises(ConnectionFailed, match="before the answer was complete"):
            client.get_file_content(1, "f")


def test_chunks_without_their_end_are_a_broken_connection() -> None:
    name, body = FORMS["gzip"]
    cut = Answer(
        [body[:-4], body[-4:]],
        headers={"Content-Encoding": name},
        framing="chunked",
        drop_at=len(body),
    )
    with FaultServer([cut]) as server, pytest.raises(ConnectionFailed):
        BeRayClient(server.url, max_retries=0).list_tasks()


def test_of_a_post_whose_encoded_answer_is_cut_nothing_is_known() -> None:
    body = gzip.compress(b'{"message": "stopped"}')
    cut = Answer(body[:-1], headers={"Content-Encoding": "gzip"}, framing="close")
    with FaultServer([cut]) as server, pytest.raises(OutcomeUnknown):
        BeRayClient(server.url).stop_task(1)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_an_answer_that_is_not_encoded_as_it_says_is_malformed(name: str) -> None:
    answer = Answer(b"<html>no such thing", headers={"Content-Encoding": name})
    with FaultServer([answer] * 2) as server:
        client = BeRayClient(server.url)
        with pytest.raises(InvalidResponseError, match="not encoded as it says"):
            client.list_tasks()
        with pytest.raises(InvalidResponseError, match="not encoded as it says"):
            next(client.stream_task_updates(1))
        assert len(server.requests) == 2


def test_an_empty_body_is_not_a_cut_one() -> None:
    with FaultServer([Answer(b"", headers={"Content-Encoding": "gzip"})]) as server:
        assert BeRayClient(server.url).get_file_content(1, "f").content == b""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
def test_any_pieces_give_the_same(form: str, step: int) -> None:
    name, body = FORMS[form]
    inflater = Inflater(is_gzip=name != "deflate")
    content = b""
    for at in range(0, len(body), step):
        inflater.feed(body[at : at + step])
        while piece := inflater.more():
            assert len(piece) <= 64 * 1024
            content += piece
    inflater.require_end()
    assert content == BODY


def test_nothing_is_held_back() -> None:
    packer = zlib.compressobj(wbits=31)
    inflater = Inflater(is_gzip=True)
    for size in (1, 64 * 1024, 200_000, 5):
        inflater.feed(packer.compress(b"x" * size) + packer.flush(zlib.Z_SYNC_FLUSH))
        given = 0
        while piece := inflater.more():
            given += len(piece)
        assert given == size


@pytest.mark.parametrize("digits", [4300, 4301, 100_000])
def test_a_number_too_long_to_be_read_is_named(digits: int) -> None:
    body = b'{"id": 1, "goal": "g", "status": "s", "n": %s}' % (b"7" * digits)
    block = b'data: {"status": "STOPPED", "n": %s}\n\n' % (b"7" * digits)
    stream = Answer(block, headers={"Content-Type": "text/event-stream"})
    with FaultServer([Answer(body), stream]) as server:
        client = BeRayClient(server.url)
        if digits == 4300:
            assert client.get_task(1)["id"] == 1
            assert len(list(client.stream_task_updates(1))) == 1
            return
        for call in (lambda: client.get_task(1), lambda: list(client.stream_task_updates(1))):
            with pytest.raises(InvalidResponseError, match="a number of more than 4300 digits"):
                call()


def test_nesting_that_is_too_deep_is_named() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    stream = Answer(b"data: %s\n\n" % deep, headers={"Content-Type": "text/event-stream"})
    with FaultServer([Answer(deep), stream]) as server:
        client = BeRayClient(server.url)
        for call in (lambda: client.list_tasks(), lambda: list(client.stream_task_updates(1))):
            with pytest.raises(InvalidResponseError, match="nested too deeply"):
                call()


def test_of_a_refusal_that_unpacks_to_anything_little_is_read() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    with FaultServer([Answer(bomb, 403, headers={"Content-Encoding": "gzip"})]) as server:
        tracemalloc.start()
        try:
            with pytest.raises(APIError):
                BeRayClient(server.url, "t").list_tasks()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000
