"""What a stream is doing. Apart from the streams, because to show it needs none of them."""

from __future__ import annotations

from enum import StrEnum


class StreamState(StrEnum):
    """What a stream is doing, for a caller to show."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
