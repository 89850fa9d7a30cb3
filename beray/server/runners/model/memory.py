"""What a model is told again of a chat: all messages of its answers so far."""

from __future__ import annotations

from pathlib import Path

import structlog
from pydantic import ValidationError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from beray.config import write_private

log = structlog.get_logger("beray.model")


def recall(path: Path | None) -> list[ModelMessage]:
    """The messages that ``keep`` kept; none where there are none, or none that can be read."""
    if path is None:
        return []
    try:
        return ModelMessagesTypeAdapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        log.error("a conversation cannot be read", path=str(path), error=type(error).__name__)
        return []


def keep(path: Path | None, messages: bytes) -> None:
    if path is not None:
        write_private(path, messages.decode())
