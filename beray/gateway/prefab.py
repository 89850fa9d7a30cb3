"""One version of a prefab, to be called as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from beray.gateway.models import PrefabResult
from beray.gateway.runs import PrefabStream

if TYPE_CHECKING:
    from beray.gateway.client import GatewayClient


class Prefab:
    """One version of a prefab, as :meth:`GatewayClient.prefab` returns it.

    Its functions are methods: ``llm.chat(messages=[…])`` is ``llm.call("chat", messages=[…])``.
    Functions that are named like an attribute of this class, or begin with an underscore, are
    called with ``call``.
    """

    def __init__(self, client: GatewayClient, prefab_id: str, version: str) -> None:
        self.prefab_id = prefab_id
        self.version = version
        self._client = client

    def __repr__(self) -> str:
        return f"Prefab({self.prefab_id!r}, {self.version!r})"

    def __getattr__(self, function_name: str) -> Callable[..., PrefabResult]:
        if function_name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {function_name!r}"
            )
        return partial(self.call, function_name)

    def call(
        self,
        function_name: str,
        /,
        files: Mapping[str, Sequence[str]] | None = None,
        **parameters: Any,
    ) -> PrefabResult:
        """Call a function; as :meth:`GatewayClient.run`, which also takes parameters that
        are called ``files``."""
        return self._client.run(self.prefab_id, self.version, function_name, parameters, files)

    def stream(
        self,
        function_name: str,
        /,
        files: Mapping[str, Sequence[str]] | None = None,
        **parameters: Any,
    ) -> PrefabStream:
        """Call a function and iterate over its events."""
        return self._client.run(
            self.prefab_id, self.version, function_name, parameters, files, stream=True
        )

    def spec(self) -> dict[str, Any]:
        """What it can do; as :meth:`GatewayClient.get_prefab_spec`."""
        return self._client.get_prefab_spec(self.prefab_id, self.version)
