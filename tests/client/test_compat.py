"""Private interfaces of libraries: an update that moves what a ``_compat`` module uses fails here."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import requests

from beray.http import _requests_compat, _urllib3_compat
from beray.testing import FaultServer, ScriptedResponse

BODY = b"0123456789" * 1000


@pytest.fixture
def response(request: pytest.FixtureRequest) -> Iterator[requests.Response]:
    """Return a response whose body, framed as the parameter, has not been read."""
    with (
        FaultServer([ScriptedResponse(BODY, framing=request.param)]) as server,
        requests.get(server.url, stream=True, timeout=30) as received,
    ):
        yield received


@pytest.mark.parametrize("response", ["length", "chunked"], indirect=True)
def test_the_content_of_a_response_can_be_set(response: requests.Response) -> None:
    assert not _requests_compat.has_content(response)
    _requests_compat.set_content(response, b'{"a": 1}')
    assert _requests_compat.has_content(response)
    assert response.content == b'{"a": 1}'
    assert response.json() == {"a": 1}
    assert list(response.iter_content(4)) == [b'{"a"', b": 1}"]


@pytest.mark.parametrize("response", ["length"], indirect=True)
def test_a_response_that_requests_has_read_has_content(response: requests.Response) -> None:
    assert response.content == BODY
    assert _requests_compat.has_content(response)


@pytest.mark.parametrize("response", ["length"], indirect=True)
def test_the_buffer_of_a_body_with_a_length(response: requests.Response) -> None:
    body = _urllib3_compat.buffered_body(response)
    assert body is not None
    assert not body.is_chunked
    assert body.remaining == len(BODY)
    buffer = bytearray(len(BODY))
    received = 0
    while received < len(BODY):
        received += body.buffer.readinto1(memoryview(buffer)[received:])
    assert buffer == BODY


@pytest.mark.parametrize("response", ["chunked"], indirect=True)
def test_the_buffer_of_a_chunked_body_contains_the_chunks(response: requests.Response) -> None:
    body = _urllib3_compat.buffered_body(response)
    assert body is not None
    assert body.is_chunked
    assert body.remaining is None
    assert int(body.buffer.readline(), 16) > 0


def test_a_response_of_another_transport_has_no_buffer() -> None:
    response = requests.Response()
    response.raw = io.BytesIO(BODY)
    assert _urllib3_compat.buffered_body(response) is None
