"""Result of an upload: the URL of the file, which also has the keys of the gateway's answer.

Source: the Gateway wire page. One published document returns the answer as a dictionary, the
other its ``s3_url``.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any, Literal, Self, SupportsIndex, overload


class UploadResult(str):
    """The ``s3://`` URL of an uploaded file, with the keys ``s3_url``, ``filename``, ``size``
    (bytes) and ``success``.

    It is a string everywhere, such as in ``files`` of a run and in JSON. Only indexing with a
    key, ``in`` with the name of a key, ``get``, ``keys``, ``values``, ``items`` and ``dict()``
    use the answer.
    """

    _answer: dict[str, Any]

    def __new__(cls, s3_url: str, answer: Mapping[str, Any] | None = None) -> Self:
        result = super().__new__(cls, s3_url)
        result._answer = {"success": True, **(answer or {}), "s3_url": str(s3_url)}
        return result

    @overload
    def __getitem__(self, key: SupportsIndex | slice, /) -> str: ...

    @overload
    def __getitem__(self, key: Literal["s3_url", "filename"], /) -> str: ...

    @overload
    def __getitem__(self, key: Literal["size"], /) -> int: ...

    @overload
    def __getitem__(self, key: Literal["success"], /) -> bool: ...

    @overload
    def __getitem__(self, key: str, /) -> Any: ...

    def __getitem__(self, key: SupportsIndex | slice | str, /) -> Any:
        return self._answer[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object, /) -> bool:
        return key in self._answer or (isinstance(key, str) and super().__contains__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the answer."""
        return self._answer.get(key, default)

    def keys(self) -> KeysView[str]:
        return self._answer.keys()

    def values(self) -> ValuesView[Any]:
        return self._answer.values()

    def items(self) -> ItemsView[str, Any]:
        return self._answer.items()
