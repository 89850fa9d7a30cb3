"""Validation and canonical forms of e-mail addresses."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

import idna

from beray.sanitize import one_line
from beray.server.http.errors import ApiHTTPError

_LOCAL_PART: Final = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f-\x9f]{1,64}")
_DOMAIN: Final = re.compile(r"[\w.-]{1,253}")
_LABEL: Final = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")


class EmailAddress(NamedTuple):
    """A valid e-mail address.

    Attributes:
        text: Canonical form, which is stored and shown: lower case, Unicode NFC, an
            internationalized domain in Unicode.
        mailbox: The same with the domain in ASCII (IDNA 2008, RFC 5891), which every mail
            server supports.
        spellings: All forms in which this or an earlier version may have stored the account;
            the canonical one is the first.
    """

    text: str
    mailbox: str
    spellings: tuple[str, ...]

    @property
    def needs_smtputf8(self) -> bool:
        """True if only servers with SMTPUTF8 (RFC 6531) can deliver to this address."""
        return not self.mailbox.isascii()


def parse_email(text: str) -> EmailAddress:
    """Parse an e-mail address.

    Raises:
        ApiHTTPError: 422, ``text`` is not a valid e-mail address.
    """
    typed = text.strip().lower()
    local, _, domain = unicodedata.normalize("NFC", typed).rpartition("@")
    if (
        not _LOCAL_PART.fullmatch(local)
        or any(unicodedata.category(character) == "Cf" for character in local)
        or not _DOMAIN.fullmatch(domain)
        or ".." in f"{local}@{domain}"
        or domain.endswith((".", "-"))
    ):
        raise _invalid(text, "the form is NAME@DOMAIN, such as ada@example.com")
    ascii_domain = domain
    if not domain.isascii() or "xn--" in domain:
        try:
            ascii_domain = idna.encode(domain, uts46=True).decode()
            domain = idna.decode(ascii_domain)
        except (idna.IDNAError, UnicodeError):
            raise _invalid(text, "its domain is not a valid internationalized name") from None
    if not all(_LABEL.fullmatch(label) for label in ascii_domain.split(".")):
        raise _invalid(
            text,
            "each part of its domain needs 1 to 63 characters, without a hyphen at either end",
        )
    canonical, mailbox = f"{local}@{domain}", f"{local}@{ascii_domain}"
    return EmailAddress(canonical, mailbox, tuple(dict.fromkeys([canonical, typed, mailbox])))


def account_key(text: str) -> tuple[str, ...]:
    """Return the forms in which the account of an entered address may be stored.

    The first is canonical. An invalid address has a single form.
    """
    try:
        return parse_email(text).spellings
    except ApiHTTPError:
        return (text.strip().lower(),)


def _invalid(text: str, reason: str) -> ApiHTTPError:
    return ApiHTTPError(422, one_line(f"{text[:320]!r} is not a valid e-mail address: {reason}."))
