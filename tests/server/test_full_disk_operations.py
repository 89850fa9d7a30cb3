"""Operations that free space or sign users in, on a disk that is really full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from beray.server.accounts.actors import Actor
from beray.server.accounts.verification_codes import VerificationCodes
from beray.server.http.client_address import Client
from beray.server.objects.local import BUCKET, LocalObjectStore
from beray.server.objects.signing import UrlSigner
from beray.server.objects.temporary import TemporaryObjects
from beray.server.prefabs.secrets import PrefabSecrets
from beray.server.storage.api_keys import NewApiKey
from beray.server.storage.database_errors import StorageError, is_full
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.storage.log_transaction import NewEvent
from beray.server.storage.tasks import TaskSpec
from beray.server.workspace.workspace import Workspaces
from tests.gateway_support import pieces
from tests.repositories import Repositories, opened
from tests.small_disk import fill, mounted

RESERVE = 4 * 1024 * 1024
ADDRESS = "new@example.test"
PURPOSE: Final = "registration"


class Full(NamedTuple):
    """Services on a full disk, with the data that they stored before."""

    disk: Path
    repositories: Repositories
    workspaces: Workspaces
    secrets: PrefabSecrets
    codes: VerificationCodes
    objects: LocalObjectStore
    temporary: TemporaryObjects
    user_id: int
    other_id: int
    gone_id: int
    task_id: int
    key_id: int
    token: str
    code: str


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    with mounted(tmp_path_factory.mktemp("full") / "disk") as disk:
        reserve = DiskReserve(disk / FILE_NAME, RESERVE)
        with opened(disk / "db.sqlite3", reserve) as repositories:
            filled = store_data(
                disk, repositories, Workspaces(disk / "workspaces", reserve=reserve)
            )
            assert reserve.refill()
            yield filled


def store_data(disk: Path, repositories: Repositories, workspaces: Workspaces) -> Full:
    signer = UrlSigner(b"x" * 32, BUCKET)
    objects = LocalObjectStore(folder=disk / "objects", objects=repositories.objects, signer=signer)
    temporary = TemporaryObjects(times=repositories.temporary_objects, objects=objects)
    secrets = PrefabSecrets(secrets=repositories.prefab_secrets, data_dir=disk)
    codes = VerificationCodes(codes=repositories.codes)
    user = repositories.accounts.create("ada@example.test", "hash")
    other = repositories.accounts.create("bob@example.test", "hash")
    gone = repositories.accounts.create("eve@example.test", "hash")
    task = repositories.tasks.create(user.id, TaskSpec("!true"), held=True)
    workspaces.create(task.id)
    (workspaces.path(task.id) / "file").write_bytes(b"x")
    events = [NewEvent(task.id, seq, "X", "{}") for seq in (1, 2)]
    repositories.events.transact(lambda log: log.insert(events), wait=10.0, with_reserve=False)
    repositories.start_session("ended", user.id)
    key, _ = repositories.api_keys.create(user.id, NewApiKey("key", None))
    secrets.put(user.id, "prefab", "name", "value")
    token = repositories.internal_tokens.create(user.id, None, 60.0)
    code = codes.issue(PURPOSE, ADDRESS, Client("127.0.0.1", local=True))

    async def put() -> None:
        for name in ("w/1/kept", "w/1/s/gone"):
            await objects.put(name, pieces(b"x"))
        await temporary.keep("w/1/s/gone", 60.0)

    asyncio.run(put())
    return Full(
        disk, repositories, workspaces, secrets, codes, objects, temporary,
        user.id, other.id, gone.id, task.id, key.id, token, code,
    )  # fmt: skip


def delete(at: Full, name: str) -> None:
    assert asyncio.run(at.objects.delete([name])) == 1


RECORD = Actor(Client("127.0.0.1", local=True)).record("test")
RECOVERY: dict[str, Callable[[Full], Any]] = {
    "record a failed sign-in": lambda at: at.repositories.audit.add(RECORD),
    "disable an account": lambda at: at.repositories.accounts.set_disabled(
        at.other_id, RECORD, disabled=True
    ),
    "delete an account": lambda at: at.repositories.accounts.begin_deletion(at.gone_id, RECORD),
    "force a password": lambda at: at.repositories.accounts.force_password(
        at.other_id, "other", RECORD
    ),
    "sign in": lambda at: at.repositories.start_session("new", at.user_id),
    "rehash a password": lambda at: at.repositories.accounts.rehash_password(
        at.user_id, "hash", "other"
    ),
    "sign out": lambda at: at.repositories.tokens.delete("ended"),
    "sign out everywhere": lambda at: at.repositories.tokens.delete_all(at.user_id),
    "exchange an API key": lambda at: at.repositories.internal_tokens.create(
        at.user_id, None, 60.0
    ),
    "end a token": lambda at: at.repositories.internal_tokens.delete(at.token),
    "revoke an API key": lambda at: at.repositories.api_keys.delete(at.user_id, at.key_id),
    "remove a secret": lambda at: at.secrets.remove(at.user_id, "prefab", "name"),
    "release a prefab's id": lambda at: at.repositories.prefab_authors.delete("prefab"),
    "delete an object": lambda at: delete(at, "w/1/kept"),
    "delete temporary objects": lambda at: asyncio.run(at.temporary.clean("w/1/s/")),
    "withdraw a code": lambda at: at.codes.withdraw(PURPOSE, ADDRESS, at.code),
    "remove codes": lambda at: at.codes.remove(PURPOSE, ADDRESS),
    "remove expired codes": lambda at: at.codes.remove_expired(),
    "delete a task": lambda at: at.repositories.tasks.delete(at.task_id),
    "remove a work_dir": lambda at: at.workspaces.remove(at.task_id),
    "remove events": lambda at: at.repositories.events.delete_first(at.task_id, 1),
    "undo a task": lambda at: at.repositories.tasks.undo_create(at.task_id),
    "forget a deleted task": lambda at: at.repositories.tasks.forget_deleted(at.task_id),
    "return pages": lambda at: at.repositories.space.return_pages(10),
    "truncate the log": lambda at: at.repositories.space.truncate_log(),
}
ORDINARY: dict[str, Callable[[Full], Any]] = {
    "add a user": lambda at: at.repositories.accounts.create("b@example.test", None),
    "add a task": lambda at: at.repositories.tasks.create(at.user_id, TaskSpec("!true"), held=True),
    "add a chat": lambda at: at.repositories.chats.create(at.user_id, "chat"),
    "add an API key": lambda at: at.repositories.api_keys.create(
        at.user_id, NewApiKey("another", None)
    ),
    "invite an address": lambda at: at.repositories.invitations.put(
        "c@example.test", "user", "", 60.0, RECORD
    ),
    "put a secret": lambda at: at.secrets.put(at.user_id, "prefab", "other", "value"),
    "issue a code": lambda at: at.codes.issue(
        PURPOSE, "c@example.test", Client("127.0.0.1", local=True)
    ),
}


def use_up(at: Full) -> None:
    """Fill the disk and the free pages of the database."""
    fill(at.disk)
    for size in (100_000, 1000, 1):
        with pytest.raises(StorageError) as caught:
            while True:
                at.repositories.tasks.create(at.user_id, TaskSpec("x" * size), held=True)
        assert is_full(caught.value)


@pytest.mark.parametrize("name", RECOVERY)
def test_a_recovery_operation_succeeds(full: Full, name: str) -> None:
    use_up(full)
    RECOVERY[name](full)


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_write_is_rejected_and_the_reserve_stays(full: Full, name: str) -> None:
    use_up(full)
    # A recovery uses the reserve; no ordinary write may take what it has not given back.
    full.repositories.start_session(name, full.user_id)
    use_up(full)
    with pytest.raises(StorageError) as caught:
        ORDINARY[name](full)
    assert is_full(caught.value)
    full.repositories.tokens.delete(name)
