"""The server's log: lines for people on a terminal, JSON for machines elsewhere, on stderr."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from beray.sanitize import printable
from beray.server.runtime.log_throttle import Throttle


def configure() -> None:
    """Send what structlog and the standard library log to stderr."""
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
                *rendering(for_people=sys.stderr.isatty()),
            ],
        )
    )
    handler.addFilter(Throttle(handler))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # These report every look at the schema, every request, every change of a file.
    for name in ("alembic", "httpx", "httpx2", "watchfiles"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs URLs and parts of responses of users' servers. Failures are events of the task.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


def rendering(*, for_people: bool) -> list[Processor]:
    """What makes a line of an event; either way nothing in it acts on a terminal."""
    if not for_people:
        return [structlog.processors.JSONRenderer()]
    # The default for exceptions shows local variables: a password may be among them.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return [_printable, plain]


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {
        key: printable(value if isinstance(value, str) else repr(value))
        for key, value in event.items()
    }
