"""Rules for new passwords. Existing passwords are never checked.

Source: NIST SP 800-63B, 3.1.1.2 (length, and a list of common passwords).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from beray.sanitize import normalized_password
from beray.server.http.errors import InvalidField

MIN_CHARACTERS: Final = 8
_MIN_DERIVED: Final = 4
"""Minimum length of a part of an address that a password must not consist of."""
_AFFIXES: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")


def check_new_password(password: str, email: str, field: str = "password") -> str:
    """Return a new password in its normalized form.

    The import of the list of common passwords takes some time; call it in a thread.

    Args:
        password: The password as the user entered it.
        email: Address of the account.
        field: Key of the password in the body of the request.

    Raises:
        InvalidField: The password is too short, common, or derived from the address.
    """
    normalized = normalized_password(password)
    if len(normalized) < MIN_CHARACTERS:
        raise InvalidField(
            field, f"has {len(normalized)} characters; at least {MIN_CHARACTERS} are required"
        )
    if normalized.casefold() in _common_passwords():
        raise InvalidField(field, "is one of the most common passwords; choose another one")
    if _is_derived(normalized.casefold(), email.casefold()):
        raise InvalidField(field, "consists of the e-mail address; choose another one")
    return normalized


def _is_derived(password: str, email: str) -> bool:
    """Return True if a password is the address or a part of it, with digits or signs around it."""
    local, _, domain = email.partition("@")
    parts = {email, local, domain, domain.partition(".")[0], local + domain.partition(".")[0]}
    parts |= {re.sub(r"[\W_]", "", part) for part in parts}
    core = _AFFIXES.sub("", password)
    candidates = {password, core, password[::-1], core[::-1]}
    candidates |= {_half(candidate) for candidate in candidates}
    return any(len(text) >= _MIN_DERIVED and text in parts for text in candidates)


def _half(text: str) -> str:
    """Return the first half of a string that consists of two equal halves; otherwise ""."""
    half = text[: len(text) // 2]
    return half if text == half + half else ""


@lru_cache(maxsize=1)
def _common_passwords() -> frozenset[str]:
    # Imported late: only servers on which passwords are set need the 4 MB.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])
