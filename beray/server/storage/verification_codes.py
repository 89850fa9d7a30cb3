"""Repository of verification codes, of which only the digests are stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Delete, Select, delete, func, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.tables import VerificationCode
from beray.server.storage.times import utc_now


class CodeKey(NamedTuple):
    """Purpose, e-mail address and digest of a code."""

    purpose: str
    email: str
    digest: str


class CodeTransaction:
    """Open transaction of ``VerificationCodeRepository.transaction``."""

    def __init__(self, *, session: Session) -> None:
        self._session = session

    def delete_expired(self) -> None:
        """Delete expired codes."""
        self._session.execute(_expired())

    def newest_sent_at(self, purpose: str, email: str) -> str | None:
        """Return the time at which the newest code for a purpose was sent to an address."""
        newest = select(func.max(VerificationCode.sent_at)).where(
            VerificationCode.purpose == purpose, VerificationCode.email == email
        )
        return self._session.scalar(newest)

    def count(self) -> int:
        """Return the number of codes of all addresses."""
        return self._session.scalar(select(func.count()).select_from(VerificationCode)) or 0

    def put(self, key: CodeKey, client: str, seconds: float) -> None:
        """Store a code that is valid for ``seconds``; replace the one of the same client."""
        self._session.merge(
            VerificationCode(
                purpose=key.purpose,
                email=key.email,
                client=client,
                digest=key.digest,
                sent_at=utc_now(),
                expires_at=utc_now(seconds),
                wrong_tries=0,
            )
        )

    def list_valid(self, purpose: str, email: str) -> list[VerificationCode]:
        """Return the valid codes of an address. Changes of the rows are stored."""
        return list(self._session.scalars(_valid(purpose, email)))


class VerificationCodeRepository:
    """Codes by purpose, address and client. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @contextmanager
    def transaction(self) -> Iterator[CodeTransaction]:
        """Open a transaction, which is committed at the end of the block."""
        with self._database.writing() as session:
            yield CodeTransaction(session=session)

    def has_valid(self, purpose: str, email: str) -> bool:
        """Return True if an address has a valid code for a purpose."""
        with self._database.reading() as session:
            return session.scalar(_valid(purpose, email).limit(1)) is not None

    def delete(self, key: CodeKey) -> None:
        """Delete a code. Idempotent."""
        self._database.write_with_reserve(lambda session: use(session, key))

    def delete_all(self, purpose: str, email: str) -> None:
        """Delete all codes of an address for a purpose."""
        codes = delete(VerificationCode).where(
            VerificationCode.purpose == purpose, VerificationCode.email == email
        )
        self._database.write_with_reserve(lambda session: session.execute(codes))

    def delete_expired(self) -> None:
        """Delete expired codes."""
        expired = _expired()
        self._database.write_with_reserve(lambda session: session.execute(expired))


def use(session: Session, key: CodeKey) -> bool:
    """Delete a code in an open transaction; return False if it does not exist any more."""
    code = delete(VerificationCode).where(
        VerificationCode.purpose == key.purpose,
        VerificationCode.email == key.email,
        VerificationCode.digest == key.digest,
    )
    return bool(session.connection().execute(code).rowcount)


def _valid(purpose: str, email: str) -> Select[Any]:
    return select(VerificationCode).where(
        VerificationCode.purpose == purpose,
        VerificationCode.email == email,
        VerificationCode.expires_at > utc_now(),
    )


def _expired() -> Delete:
    return delete(VerificationCode).where(VerificationCode.expires_at <= utc_now())
