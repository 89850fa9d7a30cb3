"""Settings of the server, read from environment variables that start with ``BERAY_``."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from beray.config import checked_base_url
from beray.exceptions import ConfigurationError
from beray.server.setting_types import address_users, uids
from beray.server.setting_types.address_users import AddressUser
from beray.server.setting_types.allow_list import AllowList
from beray.server.setting_types.binds import Bind
from beray.server.setting_types.destinations import Destination, parse_allow

SHARED_USER_QUEUED: Final = 100
SHARED_TASK_SECONDS: Final = 6 * 3600.0
_AGENT_PATHS: Final = "BERAY_AGENT_PATHS"


class Settings(BaseSettings):
    """Settings of one server. Durations are in seconds, sizes in bytes.

    Raises:
        ValidationError: A value is invalid, or two settings contradict each other.
    """

    model_config = SettingsConfigDict(env_prefix="BERAY_", extra="ignore")

    data_dir: Path = Path("beray-data")
    reserve_bytes: int = Field(default=16 * 1024**2, ge=0)
    """Disk space reserved for sign-ins, stops and deletions; 0: none. See ``reserve.py``."""
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Maximum number of tasks that run at once."""
    user_slots: int | None = Field(default=None, ge=0)
    """Maximum number of one user's tasks that run at once; 0: no limit besides ``slots``. Default
    on shared servers: ``slots`` minus 1, but at least 1. A user's chats and prefab calls are
    limited in the same way, relative to ``chat_slots`` and ``prefab_slots``; these two limits have
    no setting of their own."""
    user_queued: int | None = Field(default=None, ge=0)
    """Maximum number of one user's waiting tasks, held ones included; 0: no limit. Chat messages
    and prefab calls have the same limit. Default on shared servers: 100."""

    runner: Literal["auto", "model", "acp", "command", "agent"] = "auto"
    """Runner of goals in natural language; ``auto``: the first of these that is configured."""
    chat_slots: int = Field(default=16, ge=1)
    """Maximum number of chats that are answered at once, in addition to running tasks."""

    model: str | None = None
    """Default model, such as ``openai:gpt-4o``. The provider's key is read from the provider's own
    environment variable."""
    models: str = ""
    """Further models that a task may name: comma-separated names, with ``*`` as a wildcard."""
    mcp_stdio: bool = False
    """True if users may supply MCP servers as programs, which run in the task's sandbox."""
    mcp_servers: Path | None = None
    """JSON or TOML file of named MCP programs, which run with the rights of the server."""
    mcp_allow: str = ""
    """Comma-separated destinations that MCP URLs of users may reach besides public addresses:
    ``host:port``, addresses and networks."""
    mcp_connect_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Time limit for listing the tools of an MCP server with a URL."""
    mcp_start_seconds: float = Field(default=120.0, gt=0, le=3600)
    """Time limit for listing the tools of an MCP program, which may download packages first, as
    ``npx`` does."""
    model_images: bool = True
    """True if models receive the images that tools return, in addition to the paths of the
    files."""
    acp: str | None = None
    """Command of an agent that implements the Agent Client Protocol."""
    acp_permissions: Literal["allow", "work_dir", "deny"] = "work_dir"
    """Reply to permission requests of the ``acp`` agent; ``work_dir``: allow operations inside the
    work_dir."""
    command: str | None = None
    """Command of any other agent; ``{goal}`` in it is replaced by the goal."""
    agent_url: str | None = None
    """URL of an agent with the agent WebSocket API, such as another BeRay server."""
    agent_token: SecretStr | None = None
    """Bearer token for ``agent_url``."""
    agent_paths: str = ""
    """Paths that ``acp`` and ``command`` agents see in their sandbox besides the system's programs:
    comma-separated absolute paths, read-only unless ``=rw`` follows."""
    agent_copy_bytes: int = Field(default=1024**3, ge=1)
    """Maximum size of a user's private copy of one writable path of ``agent_paths``."""
    agent_env: str = ""
    """Comma-separated names of the server's environment variables that ``acp`` and ``command``
    agents receive."""
    agent_network: bool = True
    """True if ``acp`` and ``command`` agents have network access; most of them call a model."""
    network_allow: str = ""
    """Comma-separated ``host:port`` of services, also on this host, that commands with a network
    reach through a relay."""

    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    """Isolation of commands; ``auto``: bubblewrap, or on a personal server none if bubblewrap
    cannot work on this host; ``bubblewrap``: the server does not start without it."""
    sandbox_network: Literal["never", "task", "always"] = "task"
    """Network access of shell commands; ``task``: if the task requests it; ``never``: only
    ``network_allow``, if the task requests it. Without bubblewrap, commands always have network
    access."""
    sandbox_uids: str = uids.DEFAULT
    """Range of host uids, ``FIRST-LAST``, for the commands of a server that is root: one for each
    user. Not used by other servers."""
    tree_limit: int = Field(default=10_000, ge=1)
    """Maximum number of entries in one response with files: a listing without pages, or a page."""

    task_output_bytes: int = Field(default=256 * 1024**2, ge=1)
    """Maximum size of a task's event log; a task that exceeds it is ended."""
    task_max_file_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Maximum size of one file that a command of a task writes."""
    task_max_open_files: int = Field(default=4096, ge=16)
    """Maximum number of open files of one process of a command."""
    task_max_processes: int = Field(default=1024, ge=1)
    """Maximum number of processes of a command at once."""

    task_max_memory_bytes: int = Field(default=0, ge=0)
    """Maximum memory of all processes of a command together; 0: no limit."""
    work_dir_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Maximum size of a work_dir. Beyond it, the task is ended and uploads are rejected."""
    work_dir_files: int = Field(default=1_000_000, ge=1)
    """Maximum number of files and directories in a work_dir, and of the files of one prefab
    call."""
    shell_seconds: float = Field(default=120.0, gt=0)
    """Time limit of a shell command that a model runs, unless the model requests another one."""
    shell_output_bytes: int = Field(default=30_000, ge=100)
    """Maximum output of such a command that the model receives; a file keeps all of it."""

    task_tokens: int | None = Field(default=None, ge=0)
    """Maximum number of tokens of one task. A task may request a lower limit for this and for the
    three settings below."""
    task_requests: int | None = Field(default=None, ge=0)
    task_cost_usd: float | None = Field(default=None, ge=0)
    task_seconds: float | None = Field(default=None, ge=0)
    """Time limit of one task; 0: no limit. Default on shared servers: 6 hours."""
    daily_tokens: int | None = Field(default=None, ge=0)
    """Maximum number of tokens of all tasks of a user on one day, UTC. The three settings below
    are limits for the same period."""
    daily_requests: int | None = Field(default=None, ge=0)
    daily_cost_usd: float | None = Field(default=None, ge=0)
    daily_seconds: float | None = Field(default=None, gt=0)

    trusted_proxies: str = ""
    """Comma-separated addresses and networks of proxies whose ``X-Forwarded-For`` determines the
    client's address."""

    public_url: str | None = None
    """External URL of this server, used in URLs that it returns. If it is not set, they start with
    the URL of the request."""

    gateway_allow: str = ""
    """Comma-separated addresses and networks that may call the gateway without a credential, as an
    anonymous client."""
    agent_ws_allow: str = ""
    """Clients of the agent WebSocket that need no credential: comma-separated ``ADDRESS=EMAIL`` and
    ``NETWORK=EMAIL``, with the account that they use. The first matching entry is used."""
    internal_token_seconds: int = Field(default=24 * 3600, ge=1)
    """Lifetime of an API key's internal token after its last use."""
    gateway_object_bytes: int = Field(default=5 * 1024**3, ge=1)
    """Maximum size of an uploaded object."""
    s3_bucket: str | None = Field(default=None, min_length=1)
    """Bucket of an S3-compatible store for objects. If it is not set, objects are files in the data
    directory. Missing values of the settings below are read from the ``AWS_…`` variables."""
    s3_endpoint: str | None = None
    """URL of the store, if it is not AWS. Presigned URLs start with it."""
    s3_region: str | None = None
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None

    daily_prefab_calls: int | None = Field(default=None, ge=0)
    """Maximum number of prefab functions that a caller may run on one day, UTC."""

    prefab_slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Maximum number of prefab functions that run at once."""
    prefab_tools: str = "*"
    """Prefabs that models have as tools: comma-separated ids, with ``*`` as a wildcard. Each tool
    costs tokens."""
    prefab_authors: str = ""
    """Users who may add prefabs: comma-separated e-mail addresses, or ``*`` for all users."""
    prefab_disk_bytes: int = Field(default=2 * 1024**3, ge=1)
    """Maximum size of the files of one prefab call: inputs, outputs and temporary files."""

    max_connections: int | None = Field(default=None, ge=1)
    """Maximum number of open connections. The open-file limit is the default, and the upper
    bound."""
    max_address_connections: int = Field(default=256, ge=1)
    """Maximum number of open connections of one client address. Loopback addresses and trusted
    proxies have no such limit."""
    head_seconds: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    """Time limit for the head of a request, and for an idle connection."""
    body_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Time in which at least 1 KiB of a request's body must arrive; otherwise the request ends."""

    token_seconds: int = Field(default=30 * 24 * 3600, ge=60)
    """Lifetime of an access token."""
    heartbeat_seconds: float = Field(default=15.0, gt=0)
    """Pause between heartbeats of a stream."""
    send_timeout_seconds: float = Field(default=30.0, gt=0)
    """Time after which a watcher that reads nothing is disconnected."""

    smtp_host: str | None = None
    """Mail server. If it is not set, mails are written to ``outbox/`` in the data directory."""
    smtp_port: int = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: str = "BeRay <beray@localhost>"
    mails_per_hour: int = Field(default=300, ge=1)
    """Maximum number of verification mails sent within an hour, to all addresses together."""

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
