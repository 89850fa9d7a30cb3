"""Server program ``python -m beray.server``, which starts the embedded server, among others."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from beray.sanitize import one_line


def main() -> int:
    """Run the server with the options of the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m beray.server", description="Run a BeRay server."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, default=Path("beray-data"))
    parser.add_argument(
        "--embedded",
        type=float,
        metavar="SECONDS",
        help="serve one user on a free port, and stop after SECONDS without activity",
    )
    options = parser.parse_args()
    # The start creates many objects and frees few. Collection is enabled when the server is ready.
    gc.disable()
    _import_structlog()
    from beray.server.lifecycle import MAX_PROBLEM_CHARACTERS, CannotServe, serve, serve_embedded

    try:
        if options.embedded is not None:
            serve_embedded(options.data_dir, options.embedded)
        else:
            serve(options.host, options.port, options.data_dir)
    except CannotServe as error:
        print(f"beray: {one_line(str(error), MAX_PROBLEM_CHARACTERS)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _import_structlog() -> None:
    """Import structlog without rich, which only its unused tracebacks need.

    The import of rich takes a twelfth of the server's start.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    # Documented: None makes the import fail with ModuleNotFoundError.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    sys.exit(main())
