"""Administrators and mails of the servers that the tests of accounts use."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from textual.pilot import Pilot

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.account_servers import mail_count
from tests.support import new_address
from tests.tui.dashboard_pilot import until


def administrator(server: RunningServer, address: str | None = None) -> BeRayClient:
    """Return a client that is signed in to a new account with the role administrator."""
    address = address or new_address()
    client = server.sign_up(address)
    with closing(sqlite3.connect(server.data_dir / "beray.sqlite3", timeout=30)) as database:
        changed = database.execute(
            "UPDATE users SET role = 'administrator' WHERE email = ?", (address,)
        )
        assert changed.rowcount == 1
        database.commit()
    return client


def user_id(admin: BeRayClient, address: str) -> int:
    """Return the id of the account with an address."""
    return next(user["id"] for user in admin.admin.list_users(address)["users"])


async def until_mailed(
    pilot: Pilot[None], server: RunningServer, address: str, before: int
) -> None:
    """Wait until more than ``before`` mails to an address are in the outbox."""
    await until(pilot, lambda: mail_count(server, address) > before)


async def until_notified(pilot: Pilot[None], text: str) -> None:
    """Wait for a notification with ``text``, which may be wrapped on the screen."""
    await until(
        pilot,
        lambda: any(text in str(toast.render()) for toast in pilot.app.screen.query("Toast")),
    )
