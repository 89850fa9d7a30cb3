"""Lazy imports: packages that are not used are not imported."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

HEAVY = ("asyncio", "fastapi", "platformdirs", "rich", "sqlalchemy", "textual", "typer", "uvicorn")


def imported(script: str, *modules: str) -> str:
    """Return which of ``modules`` a new process has imported after ``script``."""
    script += f"; import sys; print(*[name for name in {modules!r} if name in sys.modules])"
    # Measuring the coverage of the process would import further modules.
    environ = {name: value for name, value in os.environ.items() if name[:4] != "COV_"}
    environ.pop("COVERAGE_PROCESS_START", None)
    environ.pop("COVERAGE_PROCESS_CONFIG", None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, timeout=60, env=environ,
    )  # fmt: skip
    return done.stdout.strip()


def test_import_is_light() -> None:
    assert imported("import beray", "requests", "pydantic", "json", *HEAVY) == ""


def test_the_client_imports_requests_and_nothing_heavy() -> None:
    assert imported("import beray; beray.BeRayClient", "requests", *HEAVY) == "requests"


def test_the_gateway_client_imports_nothing_more() -> None:
    assert imported("import beray.gateway", "requests", *HEAVY) == "requests"
    assert imported("import beray; beray.GatewayClient", "requests", *HEAVY) == "requests"


def test_the_server_starts_without_the_client_and_the_command() -> None:
    script = "from beray.server import __main__; __main__._import_structlog(); import beray.server.lifecycle"
    unused = ("requests", "rich", "textual", "typer", "alembic")
    assert imported(script, "fastapi", *unused) == "fastapi"


def test_all_public_names_exist() -> None:
    import beray

    assert all(hasattr(beray, name) for name in beray.__all__)
    assert set(beray.__all__) <= set(dir(beray))
    assert beray.__version__
    everything: dict[str, object] = {}
    exec("from beray import *", everything)
    assert set(beray.__all__) <= set(everything)
    assert beray.exceptions.APIError is beray.APIError
    assert isinstance(pickle.loads(pickle.dumps(beray.TransferError("no"))), beray.TransferError)


def test_missing_names_raise_the_usual_errors() -> None:
    import beray

    with pytest.raises(AttributeError, match="module 'beray' has no attribute 'BerayClient'"):
        beray.BerayClient  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'BerayClient'"):
        from beray import BerayClient  # type: ignore[attr-defined]  # noqa: F401


def test_the_dashboard_starts_without_later_screens() -> None:
    script = "import tui.app, tui.screens.main, tui.screens.panes"
    later = ("beray.gateway", "tui.prefabs", "tui.prefabs.list_screen", "beray.client")
    assert imported(script, "textual", *later) == "textual"
