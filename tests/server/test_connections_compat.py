"""Private interfaces of uvicorn and h11 that ``connections._compat`` uses."""

from __future__ import annotations

import h11
import pytest
import uvicorn
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from beray.server.connections._compat import StrictReceiveBuffer


def test_the_private_interfaces_are_there() -> None:
    """An update of uvicorn or h11 that moves what ``connections._compat`` uses fails here."""
    connection = h11.Connection(h11.SERVER)
    assert type(connection._receive_buffer) is ReceiveBuffer
    assert {"_data", "_multiple_lines_search", "_next_line_search"} <= vars(ReceiveBuffer()).keys()
    for name in ("maybe_extract_lines", "maybe_extract_next_line"):
        assert name in vars(ReceiveBuffer)
        assert name in vars(StrictReceiveBuffer)
    for name in (
        "send_400_response", "on_response_complete", "handle_websocket_upgrade",
        "_unset_keepalive_if_required", "connection_made", "connection_lost", "data_received",
    ):  # fmt: skip
        assert name in vars(H11Protocol)
    assert {"receive", "send", "run_asgi"} <= vars(RequestResponseCycle).keys()
    assert {"stop_keepalive", "connection_lost", "handle_close"} <= vars(
        WebSocketsSansIOProtocol
    ).keys()

    connection._receive_buffer = StrictReceiveBuffer()
    connection.receive_data(
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"
    )
    with pytest.raises(h11.RemoteProtocolError, match="content-length"):
        connection.next_event()
    assert uvicorn.__version__
