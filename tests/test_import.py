"""``import beray`` stays light: requests and pydantic, no more."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "fastapi", "platformdirs", "rich", "sqlalchemy", "textual", "typer", "uvicorn")


def test_import_is_light() -> None:
    script = f"import requests, pydantic, sys; before = set(sys.modules); import beray; print(*[m for m in {HEAVY!r} if m in set(sys.modules) - before])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_everything_public_is_there() -> None:
    import beray

    assert all(hasattr(beray, name) for name in beray.__all__)
    assert beray.__version__
