"""Display of sessions, users and invitations in tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from beray.account_schema import Invitation, ManagedUser, SignedInDevice
from tui import status
from tui.widgets.table import Column, TableRow

SESSION_COLUMNS: Final = (
    Column("IP address", 15, 39),
    Column("Created", 10, 16),
    Column("Last used", 9, 16),
)
USER_COLUMNS: Final = (
    Column("Role", 7, 13),
    Column("State", 12),
    Column("Sign-in", 7, 16, right=True),
    Column("Tasks", 5, 7, right=True),
    Column("Storage", 7, 9, right=True),
    Column("Tokens", 6, 9, right=True),
)
INVITATION_COLUMNS: Final = (
    Column("Role", 13),
    Column("Invited by", 20, 32),
    Column("Valid until", 11, 16),
)
_SHORT_ROLES: Final = {"administrator": "admin"}
_DATE_CELLS: Final = len("2026-03-14")
_MINUTE_CELLS: Final = len("2026-03-14 09:30")


def session_row(session: SignedInDevice, now: datetime) -> TableRow:
    """Return the row of a session."""
    mark = "▸ " if session.get("current") else "  "
    device = mark + (session.get("device") or "unknown device")
    address = session.get("address") or "unknown"
    created, used = session.get("created_at"), session.get("last_used_at")
    return TableRow(
        session["id"],
        (device, address, date(created), ago(used, now)),
        "bold" if session.get("current") else "",
        (device, address, minute(created), minute(used)),
    )


def user_row(user: ManagedUser, now: datetime) -> TableRow:
    """Return the row of a user."""
    last = user.get("last_sign_in_at")
    email, role, state = user["email"], user["role"], user_state(user)
    numbers = [
        str(user.get("tasks", 0)),
        status.size(user.get("storage_bytes", 0)),
        amount(user.get("tokens", 0)),
    ]
    return TableRow(
        str(user["id"]),
        (email, _SHORT_ROLES.get(role, role), state, ago(last, now), *numbers),
        "dim" if user.get("disabled") else "",
        (email, role, state, minute(last), *numbers),
    )


def user_state(user: ManagedUser) -> str:
    """Return the state of an account."""
    if user.get("disabled"):
        return "disabled"
    return "new password" if user.get("must_change_password") else "active"


def invitation_row(invitation: Invitation) -> TableRow:
    """Return the row of an invitation."""
    values = (invitation["email"], invitation["role"], invitation.get("invited_by") or "")
    until = invitation.get("expires_at")
    return TableRow(invitation["email"], (*values, date(until)), "", (*values, minute(until)))


def date(time: object) -> str:
    """Return the date of a timestamp in UTC, or "–"."""
    return minute(time)[:_DATE_CELLS]


def minute(time: object) -> str:
    """Return date and time of a timestamp in UTC, or "–"."""
    parsed = status.parse_time(time)
    return parsed.isoformat(" ")[:_MINUTE_CELLS] if parsed is not None else "–"


def ago(time: object, now: datetime) -> str:
    """Return the time since a timestamp, such as ``3m ago``, or "–"."""
    parsed = status.parse_time(time)
    return f"{status.duration(now - parsed)} ago" if parsed is not None else "–"


def amount(count: int) -> str:
    """Return a number in at most six cells: ``812``, ``1.4k``, ``36M``."""
    if count < 10_000:
        return str(count)
    value = float(count)
    for unit in "kMGT":
        value /= 1000
        if value < 999.5:
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return "huge"
