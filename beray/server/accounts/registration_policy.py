"""Decision who may register, from ``BERAY_REGISTRATION``."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from beray.server.accounts.email_address import EmailAddress, parse_email
from beray.server.settings import Settings
from beray.server.storage.invitations import InvitationRepository


class RegistrationPolicy:
    """Permission of addresses to register.

    Args:
        settings: Settings of the server.
        invitations: Repository of invitations.
    """

    def __init__(self, *, settings: Settings, invitations: InvitationRepository) -> None:
        self._settings = settings
        self._invitations = invitations
        self._domains = sorted(map(_canonical, settings.permitted_domains()))

    @property
    def hides_accounts(self) -> bool:
        """True if responses must not reveal whether an address is registered or invited."""
        return self._settings.hide_accounts

    @property
    def needs_invitation(self) -> bool:
        """True if only invited addresses may register."""
        return self._settings.registration_mode == "invite"

    def public_problem(self, address: EmailAddress) -> str | None:
        """Return why an address may not register, as far as no account is needed to know it."""
        mode = self._settings.registration_mode
        if mode == "closed":
            return "Registration is closed on this server. Ask an administrator for an account."
        if mode == "domains":
            domain = address.text.rpartition("@")[2]
            if domain not in self._domains:
                return (
                    f"Addresses of {domain} cannot register on this server; permitted: "
                    f"{', '.join(self._domains)}."
                )
        return None

    async def problem(self, address: EmailAddress) -> str | None:
        """Return why an address may not register, or None."""
        problem = self.public_problem(address)
        if problem is None and self.needs_invitation and not await self.is_invited(address):
            return (
                f"{address.text} has no valid invitation, which this server requires. Ask an "
                "administrator to invite you."
            )
        return problem

    async def is_invited(self, address: EmailAddress) -> bool:
        """Return True if an address has a valid invitation."""
        return await run_in_threadpool(self._invitations.find, address.text) is not None


def _canonical(domain: str) -> str:
    """Return a domain as addresses of accounts contain it."""
    return parse_email(f"user@{domain}").text.rpartition("@")[2]
