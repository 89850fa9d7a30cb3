"""Composition root: creates the services of the server and closes them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from beray.server.account_data.deletion import AccountDeletion
from beray.server.account_data.export import AccountExport
from beray.server.account_data.storage_usage import StorageUsage
from beray.server.accounts.administration import Administration
from beray.server.accounts.email_address import account_key
from beray.server.accounts.first_administrator import FirstAdministrator
from beray.server.accounts.service import Accounts, running_accounts
from beray.server.chats.answer_policy import AnswerPolicy
from beray.server.chats.connections import ChatConnections
from beray.server.chats.service import ChatService
from beray.server.gateway_services import GatewayServices, running_gateway
from beray.server.http.active_requests import ActiveRequests
from beray.server.readiness import Readiness
from beray.server.runners import Runners, agent_homes
from beray.server.runners.mcp import operators
from beray.server.runners.run_token import RunTokens
from beray.server.runners.token_listener import TokenListener
from beray.server.runtime.maintenance import Maintenance
from beray.server.sandbox import work_dir_owners
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.accounts import AccountRepository
from beray.server.storage.audit import AuditRepository
from beray.server.storage.blobs import BlobRepository
from beray.server.storage.chats import ChatRepository
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.storage.database import Database
from beray.server.storage.database_space import DatabaseSpace
from beray.server.storage.disk_reserve import (
    FILE_NAME,
    DiskReserve,
    free_bytes,
    keep_reserve_filled,
)
from beray.server.storage.events import EventRepository
from beray.server.storage.internal_tokens import InternalTokenRepository
from beray.server.storage.invitations import InvitationRepository
from beray.server.storage.readiness import ReadinessRepository
from beray.server.storage.task_changes import TaskChangeRepository
from beray.server.storage.tasks import TaskRepository
from beray.server.storage.tokens import TokenRepository
from beray.server.storage.usage import UsageRepository
from beray.server.storage.verification_codes import VerificationCodeRepository
from beray.server.tasks.checkpoints import TaskCheckpoints
from beray.server.tasks.conversations import FOLDER as CONVERSATIONS
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.executor import Executor
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.forks import TaskForks
from beray.server.tasks.goal_policy import GoalPolicy
from beray.server.tasks.run import GoalRunner
from beray.server.tasks.run_policy import SlotLimits
from beray.server.tasks.service import TaskService
from beray.server.workspace.history.file_diffs import count_changed_lines
from beray.server.workspace.history.service import HistoryLimits, WorkDirHistory
from beray.server.workspace.watcher import FileWatcher
from beray.server.workspace.workspace import Workspaces

DATABASE_FILE: Final = "beray.sqlite3"
"""Name of the database in the data directory."""

COUNTED_BYTES: Final = 4 * 1024 * 1024
"""Size of the changed files up to which a checkpoint counts their changed lines."""
FREE_RATIO: Final = 0.05
"""Part of the disk that the history of work_dirs leaves free."""

log = structlog.get_logger("beray.server")


@dataclass(frozen=True, kw_only=True)
class Services:
    """Services that exist as long as the server runs."""

    settings: Settings
    reserve: DiskReserve
    account_repository: AccountRepository
    token_repository: TokenRepository
    invitation_repository: InvitationRepository
    audit_repository: AuditRepository
    task_repository: TaskRepository
    chat_repository: ChatRepository
    feed: TaskFeed
    event_log: EventLog
    executor: Executor
    runners: Runners
    tasks: TaskService
    chats: ChatService
    chat_connections: ChatConnections
    maintenance: Maintenance
    workspaces: Workspaces
    conversations: Conversations
    history: WorkDirHistory
    checkpoints: TaskCheckpoints
    forks: TaskForks
    deletion: TaskDeletion
    accounts: Accounts
    administration: Administration
    first_administrator: FirstAdministrator
    account_deletion: AccountDeletion
    account_export: AccountExport
    storage_usage: StorageUsage
    gateway: GatewayServices
    active_requests: ActiveRequests
    sandbox: Sandbox
    readiness: Readiness


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Start the services of ``app``; close them on leaving.

    Raises:
        UnusableDatabase: The database belongs to a newer version, or is not a BeRay database.
        SandboxUnavailable: Commands cannot be isolated as configured.
        UnusableWorkDir: A work_dir belongs to another user.
        ObjectStoreUnavailable: The object store cannot be used.
        McpServersFileError: The file of MCP programs is invalid.
        OSError: A file in the data directory cannot be used.
        StorageError: The database cannot be used.
    """
    async with AsyncExitStack() as closing:
        reserve = DiskReserve(settings.data_dir / FILE_NAME, settings.reserve_bytes)
        starting = closing.enter_context(ExitStack())
        starting.enter_context(reserve.released_for_startup())
        database = await run_in_threadpool(Database, settings.data_dir / DATABASE_FILE, reserve)
        closing.push_async_callback(run_in_threadpool, database.close)
        account_repository = AccountRepository(database=database)
        token_repository = TokenRepository(database=database)
        invitation_repository = InvitationRepository(database=database)
        audit_repository = AuditRepository(database=database)
        task_repository = TaskRepository(database=database)
        chat_repository = ChatRepository(database=database)
        event_repository = EventRepository(database=database)
        internal_tokens = InternalTokenRepository(database=database)
        sandbox = await Sandbox.detect(settings)
        await run_in_threadpool(operators.load, settings.mcp_servers)  # checks the file
        for setting in _address_settings(settings):
            if sandbox.networks.state.mode == "host":
                log.warning(
                    f"{setting} does not apply to addresses of this host or to addresses that a "
                    "proxy reports, because tasks use the network of this host"
                )
        workspaces = await run_in_threadpool(
            Workspaces,
            settings.data_dir / "workspaces",
            quota_of=sandbox.disk_space,
            uid_of=sandbox.uid_of,
            reserve=reserve,
        )
        users = await run_in_threadpool(task_repository.users_of_tasks)
        await run_in_threadpool(
            work_dir_owners.correct_owners, workspaces.root, users, sandbox.uid_of
        )
        feed = TaskFeed(tasks=task_repository, changes=TaskChangeRepository(database=database))
        event_log = EventLog(events=event_repository, feed=feed)
        event_log.start()
        closing.push_async_callback(event_log.close)
        url: str | None = getattr(app.state, "url", None)
        active_requests = ActiveRequests()
        listener = None
        if sandbox.kind == "bubblewrap":
            listener = TokenListener(app=app, directory=settings.data_dir / "scratch")
        access = RunTokens(
            url=url, tokens=internal_tokens, active_requests=active_requests, listener=listener
        )
        gateway = await closing.enter_async_context(
            running_gateway(
                settings=settings,
                database=database,
                sandbox=sandbox,
                tokens=internal_tokens,
                access=access,
            )
        )
        runners = Runners(settings=settings, sandbox=sandbox)
        closing.push_async_callback(runners.close)
        watch = FileWatcher(workspaces.root)
        watch.start()
        closing.push_async_callback(watch.close)
        history = WorkDirHistory(
            workspaces=workspaces,
            checkpoints=CheckpointRepository(database=database),
            blobs=BlobRepository(database=database),
            objects=gateway.objects,
            limits=HistoryLimits(settings.history_bytes, settings.history_file_bytes),
            has_space=partial(_has_space, settings.data_dir),
            count_lines=partial(count_changed_lines, max_bytes=COUNTED_BYTES),
        )
        for task_id in await run_in_threadpool(history.recover, users):
            # The request that creates the task was not answered.
            await run_in_threadpool(task_repository.undo_create, task_id)
        checkpoints = TaskCheckpoints(history=history, tasks=task_repository, files=watch)
        conversations = Conversations(settings.data_dir / CONVERSATIONS)
        deletion = TaskDeletion(
            tasks=task_repository,
            events=event_repository,
            space=DatabaseSpace(database=database),
            reserve=reserve,
            workspaces=workspaces,
            conversations=conversations,
            delete_checkpoints=checkpoints.delete_of_task,
            wait_restored=checkpoints.access.wait_restored,
        )
        await run_in_threadpool(deletion.report_unknown, users)
        goal_runner = GoalRunner(
            settings=settings,
            usage=UsageRepository(database=database),
            event_log=event_log,
            runners=runners,
            workspaces=workspaces,
            conversations=conversations,
            sandbox=sandbox,
            files=watch,
            checkpoints=checkpoints,
            access=access,
            has_prefabs=lambda: bool(gateway.prefabs.registry.newest_versions()),
        )
        end_writer = EndWriter(event_log=event_log)
        closing.push_async_callback(end_writer.close)
        forks = TaskForks(
            history=history,
            tasks=task_repository,
            conversations=conversations,
            access=checkpoints.access,
        )
        goals = GoalPolicy(
            limits=SlotLimits(slots=settings.slots, slots_per_user=settings.slots_per_user),
            tasks=task_repository,
            workspaces=workspaces,
            conversations=conversations,
            forks=forks,
            goal_runner=goal_runner,
            end_writer=end_writer,
        )
        answers = AnswerPolicy(
            limits=SlotLimits(
                slots=settings.chat_slots,
                slots_per_user=settings.chat_slots_per_user,
                waiting_per_user=settings.queued_per_user,
                noun="chat messages",
            ),
            tasks=task_repository,
            events=event_repository,
            event_log=event_log,
            feed=feed,
            runners=runners,
            conversations=conversations,
            goal_runner=goal_runner,
            end_writer=end_writer,
        )
        executor = Executor(
            policies={"goal": goals, "answer": answers},
            end_writer=end_writer,
            unfinished_tasks=task_repository.list_unfinished,
        )
        closing.push_async_callback(executor.close)
        chats = ChatService(
            chats=chat_repository,
            feed=feed,
            event_log=event_log,
            workspaces=workspaces,
            conversations=conversations,
            executor=executor,
            end_writer=end_writer,
        )
        accounts = await closing.enter_async_context(
            running_accounts(
                settings=settings,
                accounts=account_repository,
                tokens=token_repository,
                codes=VerificationCodeRepository(database=database),
                invitations=invitation_repository,
                audit=audit_repository,
            )
        )
        account_deletion = AccountDeletion(
            accounts=account_repository,
            tasks=task_repository,
            executor=executor,
            task_deletion=deletion,
            event_log=event_log,
            objects=gateway.objects,
            agent_homes=settings.data_dir / agent_homes.FOLDER,
        )
        await _warn_of_missing_accounts(settings, accounts)
        app.state.sandbox = sandbox
        app.state.services = Services(
            settings=settings,
            reserve=reserve,
            account_repository=account_repository,
            token_repository=token_repository,
            invitation_repository=invitation_repository,
            audit_repository=audit_repository,
            task_repository=task_repository,
            chat_repository=chat_repository,
            feed=feed,
            event_log=event_log,
            executor=executor,
            runners=runners,
            tasks=TaskService(
                tasks=task_repository, event_log=event_log, feed=feed, executor=executor
            ),
            chats=chats,
            chat_connections=ChatConnections(),
            maintenance=Maintenance(),
            workspaces=workspaces,
            conversations=conversations,
            history=history,
            checkpoints=checkpoints,
            forks=forks,
            deletion=deletion,
            accounts=accounts,
            administration=Administration(
                accounts=account_repository,
                tokens=token_repository,
                api_keys=gateway.api_keys,
                invitations=invitation_repository,
            ),
            first_administrator=FirstAdministrator(),
            account_deletion=account_deletion,
            account_export=AccountExport(
                tasks=task_repository,
                events=event_repository,
                api_keys=gateway.api_keys,
                workspaces=workspaces,
            ),
            storage_usage=StorageUsage(tasks=task_repository, path_of=workspaces.path),
            gateway=gateway,
            active_requests=active_requests,
            sandbox=sandbox,
            readiness=Readiness(
                settings=settings,
                repository=ReadinessRepository(database=database),
                reserve=reserve,
                sandbox=sandbox,
            ),
        )
        await runners.start()
        await account_deletion.stop_tasks_of_disabled()
        interrupted = await run_in_threadpool(task_repository.list_running)
        await executor.recover()
        checkpoints.record_interrupted(interrupted)
        starting.close()
        await closing.enter_async_context(checkpoints.running())
        await closing.enter_async_context(deletion.running())
        await closing.enter_async_context(account_deletion.running())
        await closing.enter_async_context(keep_reserve_filled(reserve))
        yield


def _address_settings(settings: Settings) -> list[str]:
    """Return the names of the settings that admit clients by their address and are set."""
    values = {
        "BERAY_GATEWAY_ALLOW": settings.gateway_allow,
        "BERAY_AGENT_WS_ALLOW": settings.agent_ws_allow,
    }
    return [name for name, value in values.items() if value]


def _has_space(directory: Path, size: int) -> bool:
    """Return True if ``size`` bytes leave a part of the disk free, for work_dirs and the log."""
    found = os.statvfs(directory)
    return free_bytes(directory) - size > FREE_RATIO * found.f_blocks * found.f_frsize


async def _warn_of_missing_accounts(settings: Settings, accounts: Accounts) -> None:
    for _, email in settings.agent_ws_users():
        if await accounts.user(account_key(email)) is None:
            log.warning(
                "an account in BERAY_AGENT_WS_ALLOW does not exist; clients from its addresses "
                "are rejected until the account is registered",
                email=email,
            )
