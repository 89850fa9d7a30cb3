"""Questions to the person at the terminal, or to the script that feeds stdin."""

from __future__ import annotations

import sys

from beray.cli import output
from beray.exceptions import ConfigurationError


def ask(what: str, default: str | None = None) -> str:
    """Ask for ``what``; an empty answer is ``default``. Without a terminal: a line of stdin.

    Raises:
        ConfigurationError: there was no line, or an empty one without a default.
    """
    if output.is_terminal(sys.stdin):
        output.prompt(f"{_begun(what)} [{default}]:" if default else f"{_begun(what)}:")
    return _line(what, default)


def ask_secret(what: str) -> str:
    """Ask for ``what`` without showing what is typed. Without a terminal: the next line of stdin.

    Raises:
        ConfigurationError: there was no line, or an empty one, or the terminal insists
            on showing it.
    """
    if not output.is_terminal(sys.stdin):
        return _line(what)
    import getpass
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            answer = getpass.getpass(f"{_begun(what)}: ", stream=sys.stderr)
        except getpass.GetPassWarning:
            raise ConfigurationError(f"this terminal would show the {what}") from None
        except EOFError:
            answer = ""
    if not answer:
        raise ConfigurationError(f"{what}: nothing was given")
    return answer


def _begun(what: str) -> str:
    """``what``, as a question begins; a name in it stays as it is."""
    return what[:1].upper() + what[1:]


def confirm(question: str) -> bool:
    """Ask a question that only "y" or "yes" answers with yes. Needs ``output.can_ask()``."""
    output.prompt(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _line(what: str, default: str | None = None) -> str:
    text = sys.stdin.readline() if sys.stdin is not None else ""
    answer = text.rstrip("\r\n") or (default if text else None)
    if not answer:
        raise ConfigurationError(f"{what}: nothing was given on stdin")
    return answer
