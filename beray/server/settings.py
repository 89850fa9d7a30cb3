"""Settings of the server, read from environment variables that start with ``BERAY_``."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from beray.config import checked_base_url
from beray.exceptions import ConfigurationError
from beray.server.setting_types import address_users, uids
from beray.server.setting_types.address_users import AddressUser
from beray.server.setting_types.allow_list import AllowList
from beray.server.setting_types.binds import Bind
from beray.server.setting_types.destinations import Destination, parse_allow
from beray.server.setting_types.texts import (
    CommandLine,
    CommaSeparated,
    HostName,
    MailAddress,
    UidRange,
    Url,
)

SHARED_USER_QUEUED: Final = 100
SHARED_TASK_SECONDS: Final = 6 * 3600.0
_AGENT_PATHS: Final = "BERAY_AGENT_PATHS"


class Settings(BaseSettings):
    """Settings of one server. Durations are in seconds, sizes in bytes.

    Raises:
        ValidationError: A value is invalid, or two settings contradict each other.
    """

    model_config = SettingsConfigDict(env_prefix="BERAY_", extra="ignore")

    # The documentation (docs/reference/settings.md) shows the docstrings of the fields, their types
    # and their defaults. "Default: …" at the end of a docstring replaces the value.

    data_dir: Path = Path("beray-data")

    # Queue and fairness

    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Maximum number of tasks that run at the same time. Default: number of processors."""
    chat_slots: int = Field(default=16, ge=1)
    """Maximum number of chats that are answered at the same time, in addition to the tasks."""
    prefab_slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Maximum number of prefab functions that run at the same time, in addition to both. Default:
    number of processors."""
    user_slots: int | None = Field(default=None, ge=0)
    """Maximum number of tasks of one user that run at the same time; 0: no limit besides ``slots``.
    On shared servers, chats and prefab calls of one user have a fixed limit of the same form: their
    slots minus 1, at least 1. Default: personal: 0; shared: ``slots`` minus 1, at least 1."""
    user_queued: int | None = Field(default=None, ge=0)
    """Maximum number of tasks of one user that may wait, held tasks included; the same number
    applies to chat messages and to prefab calls. More are rejected with 429; 0: no limit. Default:
    personal: 0; shared: 100."""

    # Runners

    runner: Literal["auto", "model", "acp", "command", "agent"] = "auto"
    """Runner of goals in natural language if the task names none; ``auto``: the first of the others
    that is configured, in this order."""
    model: str | None = None
    """Language model, such as ``openai:gpt-4o``."""
    acp: CommandLine | None = None
    """Command of an agent that implements the Agent Client Protocol."""
    command: CommandLine | None = None
    """Command of any other agent program; ``{goal}`` and ``{model}`` in it are replaced."""
    agent_url: Url | None = None
    """URL of a server with the agent WebSocket API that works on goals, such as another BeRay
    server."""
    agent_token: SecretStr | None = None
    """Access token for ``agent_url``."""

    # Models and MCP

    models: CommaSeparated = ""
    """Other models that a task may name, with ``*`` as a wildcard: ``openai:gpt-4*,anthropic:*``.
    Default: none; local server: ``*``."""
    model_images: bool = True
    """``0``: the model does not accept images. It then gets only the paths of images that tools
    return."""
    shell_seconds: float = Field(default=120.0, gt=0)
    """Time limit of a shell command of a model that requests no other."""
    shell_output_bytes: int = Field(default=30_000, ge=100)
    """Maximum output of a shell command that the model gets; a file in the work_dir has all of
    it."""
    mcp_servers: Path | None = None
    """JSON or TOML file of MCP programs that tasks refer to by name (``--tool github``). They run
    with the rights of the server."""
    mcp_stdio: bool = False
    """``1``: users may supply MCP servers as programs, which run in the task's sandbox."""
    mcp_allow: CommaSeparated = ""
    """Destinations that MCP URLs of tasks may reach in addition to public addresses:
    ``host:port``, addresses, networks."""
    mcp_connect_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Time that a task waits for the tools of an MCP server at a URL."""
    mcp_start_seconds: float = Field(default=120.0, gt=0, le=3600)
    """Time that a task waits for the tools of an MCP program, which may download packages first,
    as ``npx`` does."""

    # Agents: the runners acp and command

    acp_permissions: Literal["allow", "work_dir", "deny"] = "work_dir"
    """Response to permission requests of an ACP agent; ``work_dir``: allow operations inside the
    work_dir, and commands if a sandbox contains them."""
    agent_paths: CommaSeparated = ""
    """Absolute paths that agents see in their sandbox in addition to the system's programs;
    read-only, writable with ``=rw``."""
    agent_copy_bytes: int = Field(default=1024**3, ge=1)
    """Maximum size of a user's private copy of one writable path of ``agent_paths``."""
    agent_env: CommaSeparated = ""
    """Names of the server's variables that agents receive."""
    agent_network: bool = True
    """``0``: agents have no network. Most of them call a model."""

    # Sandbox and network

    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    """Isolation of commands; ``auto``: use bubblewrap; only a personal server runs without it, if
    it is not installed or the kernel does not permit it. ``bubblewrap``: never run without it.
    ``none``: no sandbox; required to start a shared server without bubblewrap."""
    sandbox_uids: UidRange = uids.DEFAULT
    """Host uids of commands if the server is root, one for each user."""
    sandbox_network: Literal["never", "task", "always"] = "task"
    """Network of commands, goals that start with ``!`` included; ``task``: if the task asks for it
    (``--network``); ``never``: only the services of ``network_allow``, if the task asks for it;
    ``always``: for all tasks. Without bubblewrap, commands always have a network."""
    network_allow: CommaSeparated = ""
    """``host:port`` of services, also on the server's host, that commands with a network reach
    through a relay: ``127.0.0.1:11434,mirror.lan:443``."""

    # Limits of tasks

    work_dir_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Maximum content of a work_dir, including unlinked open files and ``/tmp``. Beyond it the task
    ends as ``FAILED`` (``quota``), and uploads are rejected."""
    work_dir_files: int = Field(default=1_000_000, ge=1)
    """Maximum number of files and directories in a work_dir, and of the files of one prefab
    call."""
    task_output_bytes: int = Field(default=256 * 1024**2, ge=1)
    """Maximum size of the events of a task. Beyond it the task ends as ``FAILED``
    (``output_limit``)."""
    task_max_file_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Maximum size of one file that a command writes."""
    task_max_open_files: int = Field(default=4096, ge=16)
    """Maximum number of open files of one process."""
    task_max_processes: int = Field(default=1024, ge=1)
    """Maximum number of processes of one command."""
    task_max_memory_bytes: int = Field(default=0, ge=0)
    """Maximum memory of all processes of one command; 0: no limit."""

    # Budgets

    task_tokens: int | None = Field(default=None, ge=0)
    """Maximum number of tokens of one task. Default: no limit."""
    task_requests: int | None = Field(default=None, ge=0)
    """Maximum number of model requests of one task. Default: no limit."""
    task_cost_usd: float | None = Field(default=None, ge=0)
    """Maximum cost of one task in US dollars, if the price of the model is known. Default: no
    limit."""
    task_seconds: float | None = Field(default=None, ge=0)
    """Maximum run time of one task; 0: no limit. Default: personal: 0; shared: 21,600 (6 hours)."""
    daily_tokens: int | None = Field(default=None, ge=0)
    """Maximum number of tokens of all tasks of a user on one day. Default: no limit."""
    daily_requests: int | None = Field(default=None, ge=0)
    """Maximum number of model requests of all tasks of a user on one day. Default: no limit."""
    daily_cost_usd: float | None = Field(default=None, ge=0)
    """Maximum cost of all tasks of a user on one day in US dollars. Default: no limit."""
    daily_seconds: float | None = Field(default=None, gt=0)
    """Maximum run time of all tasks of a user on one day. Default: no limit."""

    # Accounts and mail

    registration: Literal["open", "domains", "invite", "closed"] | None = None
    """Addresses that may register: all, those of ``registration_domains``, invited ones, or none.
    Default: personal: ``open``; shared: ``invite``."""
    registration_domains: CommaSeparated = Field(default="", validate_default=True)
    """Domains whose addresses may register if ``registration`` is ``domains``:
    ``example.com,example.org``."""
    hide_accounts: bool = False
    """``1``: responses do not reveal whether an address is registered or invited; a registered
    address gets a mail instead of a code."""
    invitation_seconds: int = Field(default=7 * 24 * 3600, ge=60)
    """Validity of an invitation that names no other."""
    token_seconds: int = Field(default=30 * 24 * 3600, ge=60)
    """Time after which an unused session ends."""
    token_max_seconds: int = Field(default=180 * 24 * 3600, ge=60)
    """Maximum lifetime of a session, however often it is used."""
    smtp_host: HostName | None = None
    """Mail server for verification codes. Without it, mails are files in ``outbox/`` of the data
    directory for 10 minutes."""
    smtp_port: int = 587
    """Port of the mail server."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """Encryption of the connection to the mail server."""
    smtp_user: str | None = None
    """User name at the mail server."""
    smtp_password: SecretStr | None = None
    """Password at the mail server."""
    mail_from: MailAddress = "BeRay <beray@localhost>"
    """Sender of mails."""
    mails_per_hour: int = Field(default=300, ge=1)
    """Maximum number of verification mails within one hour, to all addresses together."""

    # Connections and proxies

    public_url: Url | None = None
    """URL of the server as clients reach it, for URLs that it returns. Default: URL of the
    request."""
    trusted_proxies: CommaSeparated = ""
    """Addresses and networks of proxies whose ``X-Forwarded-For`` is used."""
    max_connections: int | None = Field(default=None, ge=1)
    """Maximum number of open connections; a larger value than the default has no effect. Default:
    as the open-file limit allows."""
    max_address_connections: int = Field(default=256, ge=1)
    """Maximum number of open connections of one client address (IPv6: one /64 network). Loopback
    addresses and trusted proxies have no such limit."""
    head_seconds: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    """Time limit for the head of a request, and for a connection that sends none."""
    body_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Time within which at least 1 KiB of a request body has to arrive."""
    heartbeat_seconds: float = Field(default=15.0, gt=0)
    """Interval of heartbeats on a silent stream."""
    send_timeout_seconds: float = Field(default=30.0, gt=0)
    """Time after which a client that reads nothing is disconnected."""
    tree_limit: int = Field(default=10_000, ge=1)
    """Maximum number of entries in one response of a file listing. BeRay's clients request further
    pages."""

    # Gateway and prefabs

    gateway_allow: CommaSeparated = ""
    """Addresses and networks that may call the gateway without a credential; never processes of
    tasks."""
    agent_ws_allow: CommaSeparated = ""
    """Clients of the agent WebSocket without a credential, and the account that they use:
    ``ADDRESS=EMAIL`` or ``NETWORK=EMAIL``. The first matching entry applies; never processes of
    tasks."""
    internal_token_seconds: int = Field(default=24 * 3600, ge=1)
    """Lifetime of an API key's internal token after its last use."""
    prefab_authors: CommaSeparated = ""
    """E-mail addresses of users who may add prefabs; ``*``: all users. Default: none; local server:
    ``*``."""
    prefab_tools: CommaSeparated = "*"
    """Ids of the prefabs that models have as tools, with ``*`` as a wildcard. Each function costs
    tokens."""
    prefab_disk_bytes: int = Field(default=2 * 1024**3, ge=1)
    """Maximum size of the files of one prefab call: inputs, outputs and temporary files."""
    daily_prefab_calls: int | None = Field(default=None, ge=0)
    """Maximum number of prefab functions that one caller may run on one day. Default: no limit."""
    gateway_object_bytes: int = Field(default=5 * 1024**3, ge=1)
    """Maximum size of a file that is uploaded to the gateway."""

    # Storage

    reserve_bytes: int = Field(default=16 * 1024**2, ge=0)
    """Disk space in the data directory that only sign-ins, stops and deletions use; 0: none."""
    history_bytes: int = Field(default=20 * 1024**3, ge=0)
    """Maximum size of the stored history of one user's work_dirs, compressed and without
    duplicates; 0 turns the history off: no checkpoints, diffs, restores and forks."""
    history_file_bytes: int = Field(default=5 * 1024**3, ge=0)
    """Maximum size of a file whose content the history stores. Larger files are listed only."""
    s3_bucket: str | None = Field(default=None, min_length=1)
    """Bucket of an S3-compatible store for the gateway's files and the history of work_dirs (extra
    ``s3``). It has to exist. Without it, these files are in the data directory."""
    s3_endpoint: Url | None = None
    """URL of the store. Clients have to reach it: presigned URLs begin with it. Default: AWS."""
    s3_region: str | None = None
    """Region of the store. Default: ``AWS_REGION``."""
    s3_access_key_id: str | None = None
    """Access key of the store; set both parts of the key or neither. Default:
    ``AWS_ACCESS_KEY_ID``."""
    s3_secret_access_key: SecretStr | None = None
    """Secret part of the access key. Default: ``AWS_SECRET_ACCESS_KEY``."""

    _listen_address: str = PrivateAttr("127.0.0.1")
    _embedded: bool = PrivateAttr(False)

    def set_listener(self, address: str, *, embedded: bool) -> None:
        """Record where the server listens; this decides whether it is personal or shared.

        Args:
            address: numeric IP address of the listening socket.
            embedded: True if this is the user's own server, started by a command.
        """
        self._listen_address = address
        self._embedded = embedded

    @property
    def listener(self) -> tuple[str, bool]:
        """Arguments of ``set_listener``, for the processes of runs."""
        return self._listen_address, self._embedded

    @property
    def shared(self) -> bool:
        """True if several people may use this server.

        A server is personal, the opposite of shared, if it is embedded, or if it listens on a
        loopback address and neither ``public_url`` nor ``trusted_proxies`` is set.
        """
        if self._embedded:
            return False
        proxied = bool(self.public_url or self.trusted_proxies)
        return proxied or not ip_address(self._listen_address.partition("%")[0]).is_loopback

    @property
    def registration_mode(self) -> Literal["open", "domains", "invite", "closed"]:
        """Addresses that may register."""
        return self.registration or ("invite" if self.shared else "open")

    def permitted_domains(self) -> list[str]:
        """Return the domains of ``registration_domains``."""
        return [domain.removeprefix("@") for domain in _items(self.registration_domains)]

    @property
    def slots_per_user(self) -> int | None:
        """Maximum number of one user's tasks that run at once; None: no limit."""
        if self.user_slots is not None:
            return self.user_slots or None
        return self._default_user_slots(self.slots)

    @property
    def chat_slots_per_user(self) -> int | None:
        """Maximum number of one user's chats that are answered at once; None: no limit."""
        return self._default_user_slots(self.chat_slots)

    @property
    def prefab_slots_per_user(self) -> int | None:
        """Maximum number of prefab functions that run at once for one user; None: no limit."""
        return self._default_user_slots(self.prefab_slots)

    def _default_user_slots(self, slots: int) -> int | None:
        return max(slots - 1, 1) if self.shared else None

    @property
    def queued_per_user(self) -> int | None:
        """Maximum number of one user's waiting tasks, messages or calls; None: no limit."""
        if self.user_queued is not None:
            return self.user_queued or None
        return SHARED_USER_QUEUED if self.shared else None

    @property
    def max_task_seconds(self) -> float | None:
        """Time limit of a task, in seconds; None: no limit."""
        if self.task_seconds is not None:
            return self.task_seconds or None
        return SHARED_TASK_SECONDS if self.shared else None

    @property
    def max_runs(self) -> int:
        """Maximum number of tasks, chats and prefab functions that run at once."""
        return self.slots + self.chat_slots + self.prefab_slots

    @field_validator("sandbox_network", mode="before")
    @classmethod
    def _parse_boolean(cls, value: object) -> object:
        """Accept boolean values: True means ``always``, False means ``task``."""
        text = str(value).lower()
        if text in ("1", "true", "yes", "on"):
            return "always"
        return "task" if text in ("0", "false", "no", "off") else value

    @field_validator("sandbox_uids")
    @classmethod
    def _check_uids(cls, text: str) -> str:
        uids.parse(text)
        return text

    @field_validator("trusted_proxies", "gateway_allow")
    @classmethod
    def _check_networks(cls, networks: str) -> str:
        """Reject invalid networks; uvicorn would compare them as host names, which never match."""
        for network in _items(networks):
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(
                    f"{network!r} is not an IP address or network; give a comma-separated list "
                    "such as 10.1.2.3,10.0.0.0/8"
                ) from None
        return networks.strip()

    @field_validator("agent_ws_allow")
    @classmethod
    def _check_address_users(cls, users: str) -> str:
        address_users.parse_users(users)
        return users

    @field_validator("mcp_servers", mode="before")
    @classmethod
    def _parse_empty_path(cls, path: object) -> object:
        """Treat an empty variable as not set."""
        return path or None

    @field_validator("mcp_allow")
    @classmethod
    def _check_mcp_allow(cls, destinations: str) -> str:
        AllowList.parse(destinations)
        return destinations

    @field_validator("network_allow")
    @classmethod
    def _check_network_allow(cls, text: str) -> str:
        parse_allow(text)
        return text

    @field_validator("prefab_authors")
    @classmethod
    def _check_authors(cls, authors: str) -> str:
        for author in _items(authors):
            if author != "*" and not re.fullmatch(r"[^@\s;,]+@[^@\s;,]+", author):
                raise ValueError(
                    f"{author!r} is not an e-mail address; give a comma-separated list such as "
                    "ada@example.com,bob@example.com, or * for all users"
                )
        return authors

    @field_validator("public_url", "s3_endpoint")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        try:
            return checked_base_url(url) if url else None
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @field_validator("registration", mode="before")
    @classmethod
    def _parse_empty_mode(cls, mode: object) -> object:
        """Treat an empty variable as not set."""
        return mode or None

    @field_validator("registration_domains")
    @classmethod
    def _check_domains(cls, domains: str, found: ValidationInfo) -> str:
        if found.data.get("registration") == "domains" and not _items(domains):
            raise ValueError("must name a domain, because BERAY_REGISTRATION is domains")
        for domain in _items(domains):
            if not re.fullmatch(r"@?[\w-]+(\.[\w-]+)*", domain):
                raise ValueError(
                    f"{domain!r} is not a domain; give a comma-separated list such as "
                    "example.com,example.org"
                )
        return domains

    @model_validator(mode="after")
    def _check_s3(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("set both s3_access_key_id and s3_secret_access_key, or neither")
        if self.s3_bucket is None and (self.s3_endpoint or self.s3_region or self.s3_access_key_id):
            raise ValueError("another S3 setting is set, but s3_bucket is not; set s3_bucket")
        return self

    @field_validator("agent_paths")
    @classmethod
    def _check_paths(cls, paths: str) -> str:
        for path in _items(paths):
            if not path.removesuffix("=rw").startswith(("/", "~/")):
                raise ValueError(
                    f"{path!r} is not an absolute path; give a comma-separated list such as "
                    "/opt/agent,~/.agent=rw"
                )
        return paths

    def agent_ws_users(self) -> list[AddressUser]:
        """Return the networks and accounts of ``agent_ws_allow``."""
        return address_users.parse_users(self.agent_ws_allow)

    def network_destinations(self) -> list[Destination]:
        """Return the destinations of ``network_allow``."""
        return parse_allow(self.network_allow)

    def agent_binds(self) -> list[Bind]:
        """Return the binds of ``agent_paths``."""
        return [
            Bind(_normalized(path.removesuffix("=rw")), path.endswith("=rw"), origin=_AGENT_PATHS)
            for path in _items(self.agent_paths)
        ]

    def is_tool(self, prefab_id: str) -> bool:
        """Return True if ``prefab_tools`` contains this prefab."""
        return any(fnmatchcase(prefab_id, name) for name in _items(self.prefab_tools))

    def may_add_prefabs(self, email: str) -> bool:
        """Return True if ``prefab_authors`` contains this address or ``*``."""
        authors = [item.lower() for item in _items(self.prefab_authors)]
        return "*" in authors or email.lower() in authors

    def agent_environ(self) -> dict[str, str]:
        """Return the variables of ``agent_env`` that are set, with their values."""
        return {name: os.environ[name] for name in _items(self.agent_env) if name in os.environ}


def _normalized(path: str) -> str:
    """Return an absolute path without ``~``, ``..`` and repeated slashes."""
    return "/" + os.path.normpath(os.path.expanduser(path)).lstrip("/")  # noqa: PTH111 - normalises strings


def _items(text: str) -> list[str]:
    return [item for item in map(str.strip, text.split(",")) if item]
