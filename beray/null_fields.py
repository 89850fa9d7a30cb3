"""Removal of null values in responses of servers that serialize all fields of their models.

Such a server sends null for an optional field without a value. A field that is documented as
nullable keeps it. Any other optional field is removed, because null stands for its default: callers
then see a missing field instead of a None that its type does not include.
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
    """Annotation of a field that may be null in responses."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.nullable_schema(handler(source))


OR_NULL = _OrNull()


@dataclass
class NullFields:
    """Fields of a JSON value that are removed if they are null.

    Attributes:
        names: Optional fields of the object that are not nullable.
        nested: The same for the values of its fields.
        items: The same for the items of a list.
    """

    names: frozenset[str] = frozenset()
    nested: dict[str, NullFields] = field(default_factory=dict)
    items: NullFields | None = None

    @classmethod
    def of(cls, annotation: Any) -> NullFields | None:
        """Return the fields of an annotation: a TypedDict or a list; None if there are none."""
        if is_typeddict(annotation):
            hints = get_type_hints(annotation, include_extras=True)
            # Annotations are strings, so __optional_keys__ does not contain NotRequired keys.
            names = frozenset(
                name
                for name, hint in hints.items()
                if (name in annotation.__optional_keys__ or _is_not_required(hint))
                and not _is_nullable(hint)
            )
            nested = {name: found for name, hint in hints.items() if (found := cls.of(hint))}
            return cls(names, nested) if names or nested else None
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is list:
            items = cls.of(arguments[0])
            return cls(items=items) if items else None
        if origin in (Annotated, NotRequired, Required):
            return cls.of(arguments[0])
        if origin in (Union, UnionType):
            members = [member for member in arguments if member is not NoneType]
            # Unions of several types, such as events, are left unchanged.
            return cls.of(members[0]) if len(members) == 1 else None
        return None

    def remove_from(self, value: Any) -> None:
        """Remove these fields of ``value`` if they are null, in place."""
        if isinstance(value, list) and self.items is not None:
            for item in value:
                self.items.remove_from(item)
        if not isinstance(value, dict):
            return
        if None in value.values():
            for name in self.names:
                if value.get(name, "") is None:
                    del value[name]
        for name, inner in self.nested.items():
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
