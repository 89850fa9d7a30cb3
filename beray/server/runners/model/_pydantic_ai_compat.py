"""Access to the HTTP responses of a pydantic-ai provider.

This is the only module that uses a private interface of pydantic-ai,
``Provider._own_http_client``. There is no public access to the client, and a client that is passed
in has to be closed by its creator. If the attribute is missing, no responses are recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from pydantic_ai.models import Model

HEAD_BYTES: Final = 64 * 1024
"""Number of bytes of a response body that are recorded."""


class ResponseHead:
    """Recorder of the beginning of the last response body that a model's provider sent.

    The body itself is passed on unchanged.
    """

    def __init__(self, model: Model) -> None:
        self._raw = bytearray()
        self._encoding = ""
        client = getattr(model.provider, "_own_http_client", None)
        if client is None:
            return
        import httpx2

        if not isinstance(client, httpx2.AsyncClient):
            return
        head = self._raw

        class Observed(httpx2.AsyncByteStream):
            def __init__(self, stream: httpx2.AsyncByteStream) -> None:
                self._stream = stream

            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for chunk in self._stream:
                    head.extend(chunk[: HEAD_BYTES - len(head)])
                    yield chunk

            async def aclose(self) -> None:
                await self._stream.aclose()

        async def observe(response: httpx2.Response) -> None:
            head.clear()
            self._encoding = response.headers.get("content-encoding", "")
            if isinstance(response.stream, httpx2.AsyncByteStream):
                response.stream = Observed(response.stream)

        hooks = client.event_hooks
        client.event_hooks = {**hooks, "response": [*hooks["response"], observe]}

    def clear(self) -> None:
        """Discard the recorded response."""
        self._raw.clear()

    def text(self) -> str:
        """Return the recorded text, or "" if there is none or it cannot be decompressed."""
        if not self._raw:
            return ""
        import httpx2

        headers = {"content-encoding": self._encoding} if self._encoding else {}
        try:
            response = httpx2.Response(200, headers=headers, content=bytes(self._raw))
        except httpx2.DecodingError:
            return ""
        return response.content.decode("utf-8", "replace")
