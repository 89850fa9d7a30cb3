"""Single arguments, looked at before anything is sent; each is named where it is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final

from beray.exceptions import InvalidArgument
from beray.sanitize import is_encodable
from beray.transfers.transfer import Transfer

_MOST: Final = 10**9


def kind(value: object) -> str:
    """What ``value`` is, for a message."""
    return type(value).__name__


def checked_text(value: object, name: str, *, empty: bool = False) -> str:
    """Return ``value``.

    Args:
        empty: whether it may be "".

    Raises:
        InvalidArgument: it is no text, or one that cannot be sent.
    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a text, not {kind(value)}")
    if not value and not empty:
        raise InvalidArgument(f"{name} is empty")
    if not is_encodable(value):
        raise InvalidArgument(f"{name} is not valid text: half a surrogate pair is in it")
    return value


def checked_number(value: object, name: str, most: float, unit: str = "seconds") -> float:
    """Return ``value``, a number above 0.

    Raises:
        InvalidArgument: it is none, or is more than ``most``.
    """
    try:
        number = (
            math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
        )
    except OverflowError:  # an integer that is too large for one
        number = math.nan
    if not 0 < number <= most:
        raise InvalidArgument(f"{name} must be a number of {unit}, above 0 and up to {most:,.0f}")
    return number


def checked_count(value: object, name: str, least: int) -> int:
    """Return ``value``, an integer.

    Raises:
        InvalidArgument: it is none, or is less than ``least``, or past all use.
    """
    number = least - 1 if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if not least <= number <= _MOST:
        raise InvalidArgument(f"{name} must be an integer from {least} to {_MOST:,}")
    return number


def checked_path(path: object, name: str) -> str:
    """Return ``path`` as text.

    Raises:
        InvalidArgument: it is none that a file could have.
    """
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
        os.fsencode(text)
    except (TypeError, UnicodeEncodeError):
        text = None
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgument(f"{name} must be the path of a file, not {kind(path)}")
    return text


def checked_transfer(transfer: object) -> Transfer:
    """Return ``transfer``, or a new one where it is ``None``.

    Raises:
        InvalidArgument: it is none.
    """
    if transfer is None:
        return Transfer()
    if not isinstance(transfer, Transfer):
        raise InvalidArgument(f"transfer must be a Transfer, not {kind(transfer)}")
    return transfer


def checked_pair(value: object, name: str, most: float) -> tuple[float, float]:
    """Return ``value``: seconds to connect, and seconds without a byte.

    Raises:
        InvalidArgument: it is no pair of such numbers.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidArgument(f"{name} must be a pair of seconds: to connect, and without a byte")
    connect, read = (checked_number(one, f"{name}[{at}]", most) for at, one in enumerate(value))
    return connect, read


def checked_way(
    session: Any, verify: Any, cert: Any, proxies: Any
) -> tuple[bool | str | None, str | tuple[str, str] | None]:
    """Return ``verify`` and ``cert``, with paths as texts.

    Raises:
        InvalidArgument: one of the four is nothing that requests could be made with.
    """
    if session is not None and not callable(getattr(session, "request", None)):
        raise InvalidArgument(f"session must be a requests.Session, not {kind(session)}")
    if verify is not None and not isinstance(verify, bool):
        verify = checked_path(verify, "verify")
    if isinstance(cert, (tuple, list)) and len(cert) == 2:
        cert = checked_path(cert[0], "cert[0]"), checked_path(cert[1], "cert[1]")
    elif cert is not None:
        cert = checked_path(cert, "cert")
    if proxies is not None:
        if not isinstance(proxies, Mapping):
            raise InvalidArgument(f"proxies must be a dictionary, not {kind(proxies)}")
        for scheme, proxy in proxies.items():
            checked_text(scheme, "proxies: a scheme")
            if proxy is not None:  # which is how requests says: none for this scheme
                checked_text(proxy, f"proxies[{scheme!r}]", empty=True)
    return verify, cert
