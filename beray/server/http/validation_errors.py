"""What is wrong with input, and where: as it is found, and as a 422 tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from beray.sanitize import one_line

Place = tuple[str | int, ...]


class Problem(NamedTuple):
    """What is wrong, and where."""

    loc: Place
    msg: str

    def __str__(self) -> str:
        place = ".".join(map(str, self.loc))
        return f"{place}: {self.msg}" if place else self.msg

    def shown(self) -> Problem:
        """Safe to show. A key of the input may be part of the place."""
        place = (one_line(at) if isinstance(at, str) else at for at in self.loc)
        return Problem(tuple(place), one_line(self.msg))

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return self.shown()._asdict()


def of_validation(error: Mapping[str, Any]) -> Problem:
    """One of the errors of pydantic or FastAPI, in words for who sent the input."""
    loc = tuple(error["loc"])
    if error["type"] == "json_invalid":
        return Problem(("body",), "is no JSON that could be read")
    if error["type"] in ("model_attributes_type", "dict_type") and loc == ("body",):
        return Problem(loc, "has to be a JSON object, sent as Content-Type: application/json")
    return Problem(loc, error["msg"].removeprefix("Value error, "))
