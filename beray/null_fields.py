"""Null values in answers of servers that serialise their models completely.

Such a server sends null for an optional field that has no value. A field that is documented as
nullable keeps it. In any other optional field, null stands for the default: the field is removed,
so that readers see a missing field and never a None that its type does not mention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
)

from typing_extensions import get_type_hints, is_typeddict

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class _OrNull:
    """Annotation of a field that may be null on the wire."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.nullable_schema(handler(source))


OR_NULL = _OrNull()


@dataclass
class NullFields:
    """Fields of a JSON value whose null is removed.

    Attributes:
        names: Optional fields of the object that are not nullable.
        inside: The same for values of fields.
        items: The same for items of a list.
    """

    names: frozenset[str] = frozenset()
    inside: dict[str, NullFields] = field(default_factory=dict)
    items: NullFields | None = None

    @classmethod
    def of(cls, shape: Any) -> NullFields | None:
        """Return those of a TypedDict, or a list of them; None if there are none."""
        if is_typeddict(shape):
            hints = get_type_hints(shape, include_extras=True)
            # Annotations are strings, in which __optional_keys__ cannot find NotRequired.
            names = frozenset(
                name
                for name, hint in hints.items()
                if (name in shape.__optional_keys__ or _is_not_required(hint))
                and not _is_nullable(hint)
            )
            inside = {name: found for name, hint in hints.items() if (found := cls.of(hint))}
            return cls(names, inside) if names or inside else None
        origin, arguments = get_origin(shape), get_args(shape)
        if origin is list:
            items = cls.of(arguments[0])
            return cls(items=items) if items else None
        if origin in (Annotated, NotRequired, Required):
            return cls.of(arguments[0])
        if origin in (Union, UnionType):
            kinds = [each for each in arguments if each is not NoneType]
            # Not of events: they are passed on as they are.
            return cls.of(kinds[0]) if len(kinds) == 1 else None
        return None

    def remove_from(self, value: Any) -> None:
        """Remove null from these fields of ``value``, in place."""
        if isinstance(value, list) and self.items is not None:
            for item in value:
                self.items.remove_from(item)
        if not isinstance(value, dict):
            return
        if None in value.values():
            for name in self.names:
                if value.get(name, "") is None:
                    del value[name]
        for name, inner in self.inside.items():
            if value.get(name) is not None:
                inner.remove_from(value[name])


def _is_not_required(hint: Any) -> bool:
    origin: Any = get_origin(hint)
    return origin is NotRequired


def _is_nullable(hint: Any) -> bool:
    """Return True if the annotation of a field permits null."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated and OR_NULL in arguments[1:]:
        return True
    if origin in (Annotated, NotRequired, Required):
        return _is_nullable(arguments[0])
    if origin in (Union, UnionType):
        return any(map(_is_nullable, arguments))
    return hint in (None, NoneType, Any)
