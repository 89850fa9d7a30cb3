"""Command ``docs``: open the documentation in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from beray.cli import output
from beray.cli.errors import DONE, FAILED

_PACKAGE: Final = Path(__file__).parents[2]
_CHECKOUT: Final = _PACKAGE.parent
_START: Final = "index.html"
_MISSING: Final = (
    "the documentation has not been built for this installation; in a checkout, build it with "
    "`uv run --group docs mkdocs build`, or read docs/index.md"
)


def docs(
    print_only: Annotated[
        bool,
        typer.Option("--print", help="Print the path of the start page instead of opening it."),
    ] = False,
) -> int:
    """Open the documentation in the browser.

    The pages are files of the installation and need no network. Without a browser, the path of the
    start page is printed. The exit status is 1 if the documentation has not been built.
    """
    page = find_start_page()
    if page is None:
        output.error(_MISSING)
        return FAILED
    if print_only or not _open(page):
        output.line(str(page))
    return DONE


def find_start_page() -> Path | None:
    """Return the start page of the site, or None if the site has not been built.

    A wheel that was built after the site contains it. A checkout has it in ``site/``; that
    directory belongs to another project if BeRay is installed elsewhere.
    """
    sites = [_PACKAGE / "documentation"]
    if (_CHECKOUT / "mkdocs.yml").is_file():
        sites.insert(0, _CHECKOUT / "site")
    pages = [site / _START for site in sites]
    return next((page for page in pages if page.is_file()), None)


def _open(page: Path) -> bool:
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(docs)
