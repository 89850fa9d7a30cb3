"""Questions to the user at the terminal. Scripts answer them on stdin, one line each."""

from __future__ import annotations

import sys

from beray.cli import output
from beray.exceptions import ConfigurationError


def ask(name: str, default: str | None = None) -> str:
    """Ask for a value. If stdin is not a terminal, read its next line without a prompt.

    Args:
        name: Name of the value, such as "e-mail".
        default: Result if the line is empty.

    Raises:
        ConfigurationError: stdin has ended, or the line is empty and there is no default.
    """
    if output.is_terminal(sys.stdin):
        label = _capitalize(name)
        output.prompt(f"{label} [{default}]:" if default else f"{label}:")
    return _read_line(name, default)


def ask_secret(name: str) -> str:
    """Ask for a value without echo. If stdin is not a terminal, read its next line.

    Raises:
        ConfigurationError: stdin has ended, the value is empty, or the terminal's echo cannot be
            turned off.
    """
    if not output.is_terminal(sys.stdin):
        return _read_line(name)
    import getpass
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            answer = getpass.getpass(f"{_capitalize(name)}: ", stream=sys.stderr)
        except getpass.GetPassWarning:
            raise ConfigurationError(
                f"this terminal would show the {name} while it is typed; pass it on stdin"
            ) from None
        except EOFError:
            answer = ""
    if not answer:
        raise ConfigurationError(f"the {name} is empty; enter a value")
    return answer


def ask_new_password(name: str = "password") -> str:
    """Ask for a new password. On a terminal, it must be typed twice.

    Raises:
        ConfigurationError: As for ``ask_secret``.
    """
    while True:
        password = ask_secret(name)
        if not output.is_terminal(sys.stdin) or ask_secret(f"{name} again") == password:
            return password
        output.note("Passwords do not match. Try again.")


def _capitalize(name: str) -> str:
    """Return ``name`` with a capital first letter. Names of secrets in it keep their case."""
    return name[:1].upper() + name[1:]


def require_confirmable(yes: bool, action: str) -> None:
    """Check that a confirmation is possible, before anything is requested.

    Args:
        yes: Whether the user passed ``--yes``.
        action: The action, such as "delete".

    Raises:
        ConfigurationError: It is not, because stdin or stderr is not a terminal.
    """
    if not yes and not output.can_prompt():
        stream = "stderr" if output.is_terminal(sys.stdin) else "stdin"
        raise ConfigurationError(
            f"{stream} is not a terminal; pass --yes to {action} without confirmation"
        )


def confirm(question: str) -> bool:
    """Ask a question, and return True if the answer is "y" or "yes".

    Requires ``output.can_prompt()``.
    """
    output.prompt(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _read_line(name: str, default: str | None = None) -> str:
    text = sys.stdin.readline() if sys.stdin is not None else ""
    answer = text.rstrip("\r\n") or (default if text else None)
    if not answer:
        problem = "is empty" if text else "is missing: stdin has ended"
        raise ConfigurationError(f"the {name} {problem}; pass one line on stdin")
    return answer
