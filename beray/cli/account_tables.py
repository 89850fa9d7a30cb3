"""Output of the commands of ``beray admin``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from beray.account_schema import AuditEntry, Invitation, ManagedUser
from beray.cli import output
from beray.cli.times import age, day


def report(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Write a result as JSON to stdout, or ``text`` to stderr."""
    if as_json:
        output.json_line(result)
    else:
        output.note(text)


def show_users(users: Sequence[ManagedUser]) -> None:
    """Write a table of accounts; for programs with times and sizes in full."""
    if not output.is_terminal(sys.stdout):
        for user in users:
            last = user.get("last_sign_in_at") or ""
            output.row(_user_cells(user, user["role"], last, str(user.get("storage_bytes", ""))))
        return
    now = datetime.now(UTC)
    rows = []
    for user in users:
        # Short forms leave space for the address.
        role = "admin" if user["role"] == "administrator" else user["role"]
        last = age(user.get("last_sign_in_at"), now)
        rows.append(_user_cells(user, role, last, _size(user.get("storage_bytes"))))
    headings = ("ID", "ROLE", "STATUS", "SIGN-IN", "TASKS", "STORAGE", "TOKENS", "ADDRESS")
    output.table([headings, *rows])


def _user_cells(user: ManagedUser, role: str, last_sign_in: str, storage: str) -> tuple[str, ...]:
    status = "reset" if user.get("must_change_password") else ""
    return (
        str(user["id"]), role, "disabled" if user.get("disabled") else status, last_sign_in,
        str(user.get("tasks", "")), storage, str(user.get("tokens", "")), user["email"],
    )  # fmt: skip


def _size(count: int | None) -> str:
    """Return a number of bytes in a binary unit."""
    if count is None:
        return ""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def show_invitations(invitations: Sequence[Invitation]) -> None:
    """Write a table of invitations; for programs with times in full."""
    if not output.is_terminal(sys.stdout):
        for invitation in invitations:
            output.row(_invitation_cells(invitation, invitation.get("expires_at") or ""))
        return
    if not invitations:
        output.note("no invitations; `beray admin invite ADDRESS` creates one")
        return
    rows = [
        _invitation_cells(invitation, day(invitation.get("expires_at")))
        for invitation in invitations
    ]
    output.table([("ROLE", "EXPIRES", "INVITED BY", "ADDRESS"), *rows])


def _invitation_cells(invitation: Invitation, expires: str) -> tuple[str, ...]:
    return invitation["role"], expires, invitation.get("invited_by") or "", invitation["email"]


def show_audit(entries: Sequence[AuditEntry], as_json: bool) -> None:
    """Write entries of the audit log, and flush stdout."""
    for entry in entries:
        if as_json:
            output.json_line(entry)
            continue
        cells = (
            str(entry["id"]), entry["created_at"], entry["actor"], entry["address"],
            entry["action"], entry["object"],
        )  # fmt: skip
        if output.is_terminal(sys.stdout):
            # Entries may arrive one by one, so that the widths of columns are not known.
            output.line("  ".join(output.cell(text or "-") for text in cells))
        else:
            output.row(cells)
    sys.stdout.flush()
