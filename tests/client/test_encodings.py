"""Decompression of responses, and detection of truncated ones."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from beray import APIError, BeRayClient, ConnectionFailed, InvalidResponseError, OutcomeUnknown
from beray.http.response_body import Decompressor
from beray.testing import FaultServer, ScriptedResponse

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


def encoded(form: str, framing: Any, cut: int = 0, **options: Any) -> ScriptedResponse:
    name, body = FORMS[form]
    headers = {"Content-Encoding": name}
    return ScriptedResponse(body[: len(body) - cut], headers=headers, framing=framing, **options)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_response_is_read(form: str, framing: str) -> None:
    with FaultServer([encoded(form, framing)] * 2) as server:
        client = BeRayClient(server.url)
        assert client.list_tasks() == TASKS
        assert client.get_file_content(1, "f").content == BODY
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("form", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 500])
def test_a_truncated_compressed_response_is_requested_again(form: str, cut: int) -> None:
    if form == "raw deflate" and cut == 500:
        cut = 2
    with FaultServer([encoded(form, "close", cut), encoded(form, "chunked")]) as server:
        assert BeRayClient(server.url).list_tasks() == TASKS
        assert len(server.requests) == 2


@pytest.mark.parametrize("framing", ["close", "chunked"])
@pytest.mark.parametrize("form", ["gzip", "deflate", "raw deflate"])
def test_a_compressed_response_that_stays_truncated_is_an_error(form: str, framing: str) -> None:
    # The chunked encoding is complete; only the compressed content is truncated.
    with FaultServer([encoded(form, framing, 1)] * 2) as server:
        client = BeRayClient(server.url, max_retries=0)
        with pytest.raises(ConnectionFailed, match="before the response was complete"):
            client.list_tasks()
        with pytest.raises(ConnectionFailed, match="before the response was complete"):
            client.get_file_content(1, "f")


def test_a_truncated_chunked_response_is_an_error() -> None:
    name, body = FORMS["gzip"]
    cut = ScriptedResponse(
        [body[:-4], body[-4:]],
        headers={"Content-Encoding": name},
        framing="chunked",
        drop_at=len(body),
    )
    with FaultServer([cut]) as server, pytest.raises(ConnectionFailed):
        BeRayClient(server.url, max_retries=0).list_tasks()


def test_a_truncated_response_to_a_post_leaves_its_outcome_unknown() -> None:
    body = gzip.compress(b'{"message": "stopped"}')
    cut = ScriptedResponse(body[:-1], headers={"Content-Encoding": "gzip"}, framing="close")
    with FaultServer([cut]) as server, pytest.raises(OutcomeUnknown):
        BeRayClient(server.url).stop_task(1)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_response_with_the_wrong_encoding_is_malformed(name: str) -> None:
    answer = ScriptedResponse(b"<html>no such thing", headers={"Content-Encoding": name})
    with FaultServer([answer] * 2) as server:
        client = BeRayClient(server.url)
        with pytest.raises(InvalidResponseError, match="does not match its Content-Encoding"):
            client.list_tasks()
        with pytest.raises(InvalidResponseError, match="does not match its Content-Encoding"):
            next(client.stream_task_updates(1))
        assert len(server.requests) == 2


def test_an_empty_body_is_not_truncated() -> None:
    with FaultServer([ScriptedResponse(b"", headers={"Content-Encoding": "gzip"})]) as server:
        assert BeRayClient(server.url).get_file_content(1, "f").content == b""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
def test_the_split_of_the_input_makes_no_difference(form: str, step: int) -> None:
    name, body = FORMS[form]
    decompressor = Decompressor(is_gzip=name != "deflate")
    content = b""
    for at in range(0, len(body), step):
        decompressor.feed(body[at : at + step])
        while piece := decompressor.read():
            assert len(piece) <= 64 * 1024
            content += piece
    decompressor.require_end()
    assert content == BODY


def test_output_is_available_immediately() -> None:
    packer = zlib.compressobj(wbits=31)
    decompressor = Decompressor(is_gzip=True)
    for size in (1, 64 * 1024, 200_000, 5):
        decompressor.feed(packer.compress(b"x" * size) + packer.flush(zlib.Z_SYNC_FLUSH))
        given = 0
        while piece := decompressor.read():
            given += len(piece)
        assert given == size


@pytest.mark.parametrize("digits", [4300, 4301, 100_000])
def test_a_number_too_long_to_be_read_is_named(digits: int) -> None:
    body = b'{"id": 1, "goal": "g", "status": "s", "n": %s}' % (b"7" * digits)
    block = b'data: {"status": "STOPPED", "n": %s}\n\n' % (b"7" * digits)
    stream = ScriptedResponse(block, headers={"Content-Type": "text/event-stream"})
    with FaultServer([ScriptedResponse(body), stream]) as server:
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
    stream = ScriptedResponse(b"data: %s\n\n" % deep, headers={"Content-Type": "text/event-stream"})
    with FaultServer([ScriptedResponse(deep), stream]) as server:
        client = BeRayClient(server.url)
        for call in (lambda: client.list_tasks(), lambda: list(client.stream_task_updates(1))):
            with pytest.raises(InvalidResponseError, match="nested too deeply"):
                call()


def test_little_is_read_of_an_error_body_that_expands_without_bound() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    with FaultServer([ScriptedResponse(bomb, 403, headers={"Content-Encoding": "gzip"})]) as server:
        tracemalloc.start()
        try:
            with pytest.raises(APIError):
                BeRayClient(server.url, "t").list_tasks()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000
