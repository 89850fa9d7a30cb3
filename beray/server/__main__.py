"""``python -m beray.server``: what ``beray serve`` and the embedded start run."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from beray.sanitize import one_line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m beray.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, default=Path("beray-data"))
    parser.add_argument(
        "--embedded",
        type=float,
        metavar="SECONDS",
        help="serve one user on a free port, and leave after so many seconds without anybody",
    )
    options = parser.parse_args()
    # A start makes much and frees little; the server collects again once it serves.
    gc.disable()
    _import_structlog()
    from beray.server.lifecycle import LONGEST_PROBLEM, CannotServe, serve, serve_embedded

    try:
        if options.embedded is not None:
            serve_embedded(options.data_dir, options.embedded)
        else:
            serve(options.host, options.port, options.data_dir)
    except CannotServe as error:
        print(f"beray: {one_line(str(error), LONGEST_PROBLEM)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _import_structlog() -> None:
    """Without rich, a twelfth of the whole start, which only its unwanted tracebacks need."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # documented: not to be found
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    sys.exit(main())
