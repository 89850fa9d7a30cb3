"""Log of the server on stderr: readable lines on a terminal, JSON otherwise."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from beray.sanitize import printable
from beray.server.runtime.log_throttle import LogThrottle


def configure() -> None:
    """Configure structlog and the standard library to log to stderr."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *renderers(for_terminal=sys.stderr.isatty()),
            ],
        )
    )
    handler.addFilter(LogThrottle(handler))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # These libraries log every check of the schema, every request and every change of a file.
    for name in ("alembic", "httpx", "httpx2", "watchfiles"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # This library logs URLs and parts of responses of users' servers. Its failures are events of
    # the task.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


def renderers(*, for_terminal: bool) -> list[Processor]:
    """Return the processors that format an event as a line without control characters."""
    if not for_terminal:
        return [structlog.processors.JSONRenderer()]
    # The default formatter of exceptions shows local variables, which may contain a password.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return [_escape, plain]


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace control characters in the values of an event."""
    return {
        key: printable(value if isinstance(value, str) else repr(value))
        for key, value in event.items()
    }
