"""Functions of a prefab as methods of an object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from beray.gateway.models import PrefabResult
from beray.gateway.runs import PrefabStream
from beray.gateway.schema import PrefabSpec


class Prefab:
    """Version of a prefab whose functions can be called as methods.

    :meth:`GatewayClient.prefab` returns it. ``llm.chat(messages=[…])`` is equivalent to
    ``llm.call("chat", messages=[…])``. Use ``call`` for functions whose name begins with an
    underscore or is an attribute of this class.

    Args:
        prefab_id: ID of the prefab.
        version: Version of the prefab, or ``latest``.
        run: Calls a function, as :meth:`GatewayClient.run`.
        get_spec: Returns the description of a prefab, by ID and version.

    Attributes:
        prefab_id: ID of the prefab.
        version: Version of the prefab, or ``latest``.
    """

    def __init__(
        self,
        prefab_id: str,
        version: str,
        *,
        run: Callable[..., Any],
        get_spec: Callable[[str, str], PrefabSpec],
    ) -> None:
        self.prefab_id = prefab_id
        self.version = version
        self._run = run
        self._get_spec = get_spec

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
        """Call a function and return its result.

        A function with a parameter named ``files`` has to be called by :meth:`GatewayClient.run`.

        Args:
            function_name: Name of the function.
            files: Input files: for each key, a list of ``s3://`` URLs.
            parameters: Arguments of the function; they must be valid JSON.

        Raises:
            GatewayError: See :meth:`GatewayClient.run`.
        """
        result: PrefabResult = self._run(
            self.prefab_id, self.version, function_name, parameters, files
        )
        return result

    def stream(
        self,
        function_name: str,
        /,
        files: Mapping[str, Sequence[str]] | None = None,
        **parameters: Any,
    ) -> PrefabStream:
        """Call a function and return an iterator over its events.

        Args:
            function_name: Name of the function.
            files: Input files: for each key, a list of ``s3://`` URLs.
            parameters: Arguments of the function; they must be valid JSON.

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
        """
        stream: PrefabStream = self._run(
            self.prefab_id, self.version, function_name, parameters, files, stream=True
        )
        return stream

    def spec(self) -> PrefabSpec:
        """Return the description of the prefab; see :meth:`GatewayClient.get_prefab_spec`."""
        return self._get_spec(self.prefab_id, self.version)
