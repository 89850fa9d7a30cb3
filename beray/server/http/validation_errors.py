"""What is wrong with input, and where: as it is found, and as a 422 tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from beray.sanitize import one_line

InputLocation = tuple[str | int, ...]


class InputProblem(NamedTuple):
    """What is wrong, and where."""

    loc: InputLocation
    msg: str

    def __str__(self) -> str:
        place = ".".join(map(str, self.loc))
        return f"{place}: {self.msg}" if place else self.msg

    def shown(self) -> InputProblem:
        """Safe to show. A key of the input may be part of the place."""
        place = (one_line(at) if isinstance(at, str) else at for at in self.loc)
        return InputProblem(tuple(place), one_line(self.msg))

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return self.shown()._asdict()


def from_validation_error(error: Mapping[str, Any]) -> InputProblem:
    """One of the errors of pydantic or FastAPI, in words for who sent the input."""
    loc = tuple(error["loc"])
    if error["type"] == "json_invalid":
        return InputProblem(("body",), "is no JSON that could be read")
    if error["type"] in ("model_attributes_type", "dict_type") and loc == ("body",):
        return InputProblem(loc, "has to be a JSON object, sent as Content-Type: application/json")
    return InputProblem(loc, error["msg"].removeprefix("Value error, "))
