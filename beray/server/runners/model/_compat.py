"""Uses of pydantic-ai that its public interface does not cover.

- ``Provider._own_http_client``: there is no public access to the client, and a client that is
  passed in has to be closed by its creator. If the attribute is missing, no responses are recorded.
- The messages of errors about the names of models: the errors have no attributes. If a message
  changes, BeRay's message is less specific.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from pydantic_ai.models import Model

HEAD_BYTES: Final = 64 * 1024
"""Number of bytes of a response body that are recorded."""
_VARIABLE: Final = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
_PACKAGE: Final = re.compile(r"pip install \"?(pydantic-ai-slim\[[\w-]+\])")
_SUGGESTION: Final = re.compile(r"Did you mean '([^']+)'")


def missing_package(error: ImportError) -> str | None:
    """Return the requirement that provides the packages of a provider; None if it is unknown."""
    found = _PACKAGE.search(str(error))
    return found[1] if found else None


def is_unknown_model(error: Exception) -> bool:
    """Return True if the name of the model is unknown."""
    return str(error).startswith("Unknown model")


def suggested_model(error: Exception) -> str | None:
    """Return the known name that is similar to an unknown one; None if there is none."""
    found = _SUGGESTION.search(str(error))
    return found[1] if found else None


def missing_variables(error: Exception) -> list[str]:
    """Return the environment variables that a provider requires."""
    return list(dict.fromkeys(_VARIABLE.findall(str(error))))


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
