"""What a run imports late, imported early: by the process that runs are forked from."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Final

from beray.server.runners.model import models, runner

_LATE: Final = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "genai_prices.data",
    "genai_prices.decompose",
    "genai_prices.validation",
)


def prepare(model: str | None) -> None:
    """Import what a run with ``model`` needs. No connection is made, no thread started."""
    for module in (runner.__name__, *_LATE):
        importlib.import_module(module)
    if model is not None:
        # A run will say what is wrong with it.
        with suppress(models.UnusableModel):
            models.build(model, "BERAY_MODEL")
