"""What the owner of a server can set: environment variables that start with ``BERAY_``."""

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
from beray.server.http import allowed_addresses
from beray.server.http.allowed_addresses import AddressUser
from beray.server.outbound.allow_list import AllowList
from beray.server.sandbox import network_policy, uids
from beray.server.sandbox.bubblewrap import Bind
from beray.server.sandbox.network_policy import Destination

SHARED_USER_QUEUED: Final = 100
SHARED_TASK_SECONDS: Final = 6 * 3600.0
_AGENT_PATHS: Final = "BERAY_AGENT_PATHS"


class Settings(BaseSettings):
    """Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="BERAY_", extra="ignore")

    data_dir: Path = Path("beray-data")
    reserve_bytes: int = Field(default=16 * 1024**2, ge=0)
    """Disk space that only sign-ins, stops and deletions use; 0: none. See ``reserve.py``."""
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """How many tasks run at once."""
    user_slots: int | None = Field(default=None, ge=0)
    """How many of one user's tasks run at once; 0: as many as there are slots. Default on
    shared servers: one less than there are slots, but at least 1. Chats and prefab calls of a
    user have that limit, too, of ``chat_slots`` and ``prefab_slots``; it cannot be set."""
    user_queued: int | None = Field(default=None, ge=0)
    """How many of one user's tasks may wait, held ones included; 0: any number. So many chat
    messages and prefab calls may wait as well. Default on shared servers: 100."""

    runner: Literal["auto", "model", "acp", "command", "agent"] = "auto"
    """Who does goals in plain words; ``auto``: the first of these that is set up."""
    chat_slots: int = Field(default=16, ge=1)
    """How many chats are answered at once, beside the tasks that run."""

    model: str | None = None
    """Such as ``openai:gpt-4o``. Its provider's key is where the provider wants it."""
    models: str = ""
    """What else a task may name as its model: names with ``*``, and commas between."""
    mcp_stdio: bool = False
    """Whether users may supply MCP servers as programs, which run in the task's sandbox."""
    mcp_servers: Path | None = None
    """JSON or TOML file of named MCP programs, which run with the rights of the server."""
    mcp_allow: str = ""
    """Destinations that MCP URLs of users may reach beside public addresses, comma-separated:
    ``host:port``, addresses and networks."""
    mcp_connect_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How long a run waits for the tools of an MCP server behind a URL."""
    mcp_start_seconds: float = Field(default=120.0, gt=0, le=3600)
    """The same for a program, which may first download what it needs, as ``npx`` does."""
    model_images: bool = True
    """Whether models are given the images that tools return, beside the paths of their files."""
    acp: str | None = None
    """The command of an agent that speaks the Agent Client Protocol."""
    acp_permissions: Literal["allow", "work_dir", "deny"] = "work_dir"
    """What is answered when it asks; ``work_dir``: yes to what stays inside the work_dir."""
    command: str | None = None
    """The command of any other agent, with ``{goal}`` in it."""
    agent_url: str | None = None
    """Where an agent is that speaks the agent WebSocket API, such as another server of ours."""
    agent_token: SecretStr | None = None
    agent_paths: str = ""
    """What ``acp`` and ``command`` agents find in their sandbox beside the system's programs:
    absolute paths with commas between, read-only unless ``=rw`` follows."""
    agent_copy_bytes: int = Field(default=1024**3, ge=1)
    """Maximum size of a user's private copy of one writable path of ``agent_paths``."""
    agent_env: str = ""
    """Names of the variables that they get from the server's environment, with commas."""
    agent_network: bool = True
    """Whether they may reach the network: most of them ask a model over it."""
    network_allow: str = ""
    """Comma-separated ``host:port`` of services, also on this host, that commands with a network
    reach through a relay."""

    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    """``auto`` takes bubblewrap where it works; ``bubblewrap`` refuses to start without it."""
    sandbox_network: Literal["never", "task", "always"] = "task"
    """Whether shell commands may reach the network; ``task``: where the task asks for it;
    ``never``: only ``network_allow``, where the task asks for it. Without bubblewrap they always
    can."""
    sandbox_uids: str = uids.DEFAULT
    """Range of host uids, ``FIRST-LAST``, for the commands of a server that is root: one for each
    user. Not used by other servers."""
    tree_limit: int = Field(default=10_000, ge=1)
    """Maximum number of entries in one answer with files: a listing without pages, or a page."""

    task_output_bytes: int = Field(default=256 * 1024**2, ge=1)
    """How much a task may put into its event log before it is ended."""
    task_max_file_bytes: int = Field(default=16 * 1024**3, ge=1)
    """How large a file a task's command may write."""
    task_max_open_files: int = Field(default=4096, ge=16)
    task_max_processes: int = Field(default=1024, ge=1)
    """How many processes a command may have at once."""

    task_max_memory_bytes: int = Field(default=0, ge=0)
    """How much memory a command's processes may have together; 0: no limit."""
    work_dir_bytes: int = Field(default=16 * 1024**3, ge=1)
    """How much a work_dir may hold before its task is ended, and what is written is refused."""
    work_dir_files: int = Field(default=1_000_000, ge=1)
    """How many files and folders it may hold. The files of one prefab call may be as many."""
    shell_seconds: float = Field(default=120.0, gt=0)
    """How long a shell command that a model runs may take, unless it asks for another time."""
    shell_output_bytes: int = Field(default=30_000, ge=100)
    """How much of its output the model is given; all of it is kept in a file."""

    task_tokens: int | None = Field(default=None, ge=0)
    """The most that one task may take; it may ask for less. So are the three below."""
    task_requests: int | None = Field(default=None, ge=0)
    task_cost_usd: float | None = Field(default=None, ge=0)
    task_seconds: float | None = Field(default=None, ge=0)
    """0: no limit. Default on shared servers: 6 hours."""
    daily_tokens: int | None = Field(default=None, ge=0)
    """The most that all tasks of a user may take from midnight to midnight, UTC."""
    daily_requests: int | None = Field(default=None, ge=0)
    daily_cost_usd: float | None = Field(default=None, ge=0)
    daily_seconds: float | None = Field(default=None, gt=0)

    trusted_proxies: str = ""
    """Addresses and networks, with commas, whose ``X-Forwarded-For`` says who a client is."""

    public_url: str | None = None
    """How this server is reached from outside, for URLs that it gives out. Without it, they
    begin as the request did that asked for one."""

    gateway_allow: str = ""
    """Addresses and networks, with commas, that may call the gateway as nobody in particular."""
    agent_ws_allow: str = ""
    """Clients of the agent WebSocket that need no credential: comma-separated ``ADDRESS=EMAIL`` and
    ``NETWORK=EMAIL``, the account that they use. The first entry that fits counts."""
    internal_token_seconds: int = Field(default=24 * 3600, ge=1)
    """Lifetime of an API key's internal token after its last use."""
    gateway_object_bytes: int = Field(default=5 * 1024**3, ge=1)
    """How large an uploaded object may be."""
    s3_bucket: str | None = Field(default=None, min_length=1)
    """Where objects are kept: a bucket of any S3-compatible store; without, in the data folder.
    What follows is looked for where AWS' programs do (``AWS_…``) where it is not given."""
    s3_endpoint: str | None = None
    """The store's URL, where it is not AWS. Also the beginning of presigned URLs."""
    s3_region: str | None = None
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None

    daily_prefab_calls: int | None = Field(default=None, ge=0)
    """How many functions of prefabs a caller may run from midnight to midnight, UTC."""

    prefab_slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """How many functions of prefabs run at once."""
    prefab_tools: str = "*"
    """Which of them models have as tools: ids, with ``*`` and commas. Each costs tokens."""
    prefab_authors: str = ""
    """E-mail addresses, with commas, of who may add prefabs; ``*``: everybody."""
    prefab_disk_bytes: int = Field(default=2 * 1024**3, ge=1)
    """How much the files of one call may take: inputs, outputs and what is made on the way."""

    max_connections: int | None = Field(default=None, ge=1)
    """How many connections the server keeps open at once; without it, and at most, as many as its
    open-file limit allows."""
    max_address_connections: int = Field(default=256, ge=1)
    """How many of them one client address may have; loopback and trusted proxies: any number."""
    head_seconds: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    """Time limit for the head of a request, and for a connection without one."""
    body_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """How long the body of a request may rest: less than 1 KiB in this time ends it."""

    token_seconds: int = Field(default=30 * 24 * 3600, ge=60)
    heartbeat_seconds: float = Field(default=15.0, gt=0)
    send_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long a watcher may keep the server from sending before it is cut off."""

    smtp_host: str | None = None
    """Where mail goes. Without it, mail is written to ``outbox/`` in the data folder."""
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
            embedded: whether this is the user's own server, started by a command.
        """
        self._listen_address = address
        self._embedded = embedded

    @property
    def listener(self) -> tuple[str, bool]:
        """The arguments of ``set_listener``, for the processes of runs."""
        return self._listen_address, self._embedded

    @property
    def shared(self) -> bool:
        """Whether several people may use this server.

        A server is personal, the opposite of shared, if it is embedded, or if it listens on a
        loopback address and neither ``public_url`` nor ``trusted_proxies`` is set.
        """
        if self._embedded:
            return False
        proxied = bool(self.public_url or self.trusted_proxies)
        return proxied or not ip_address(self._listen_address.partition("%")[0]).is_loopback

    @property
    def slots_per_user(self) -> int | None:
        """How many of one user's tasks run at once; ``None``: no limit."""
        if self.user_slots is not None:
            return self.user_slots or None
        return self._default_user_slots(self.slots)

    @property
    def chat_slots_per_user(self) -> int | None:
        """How many of one user's chats are answered at once; ``None``: no limit."""
        return self._default_user_slots(self.chat_slots)

    @property
    def prefab_slots_per_user(self) -> int | None:
        """How many functions of prefabs run at once for one user; ``None``: no limit."""
        return self._default_user_slots(self.prefab_slots)

    def _default_user_slots(self, slots: int) -> int | None:
        return max(slots - 1, 1) if self.shared else None

    @property
    def queued_per_user(self) -> int | None:
        """How many of one user's tasks, messages or calls may wait; ``None``: no limit."""
        if self.user_queued is not None:
            return self.user_queued or None
        return SHARED_USER_QUEUED if self.shared else None

    @property
    def max_task_seconds(self) -> float | None:
        """How long a task may run; ``None``: no limit."""
        if self.task_seconds is not None:
            return self.task_seconds or None
        return SHARED_TASK_SECONDS if self.shared else None

    @property
    def most_runs(self) -> int:
        """How many tasks, chats and functions can run at once."""
        return self.slots + self.chat_slots + self.prefab_slots

    @field_validator("sandbox_network", mode="before")
    @classmethod
    def _yes_or_no(cls, value: object) -> object:
        """A plain yes or no is understood, too."""
        said = str(value).lower()
        if said in ("1", "true", "yes", "on"):
            return "always"
        return "task" if said in ("0", "false", "no", "off") else value

    @field_validator("sandbox_uids")
    @classmethod
    def _uids(cls, text: str) -> str:
        uids.parse(text)
        return text

    @field_validator("trusted_proxies", "gateway_allow")
    @classmethod
    def _addresses(cls, networks: str) -> str:
        """What uvicorn does not understand, it would take as a name that nobody has."""
        for network in _items(networks):
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(
                    f"{network!r} is no address and no network; give some, with commas between, "
                    "such as 10.1.2.3,10.0.0.0/8"
                ) from None
        return networks.strip()

    @field_validator("agent_ws_allow")
    @classmethod
    def _address_users(cls, users: str) -> str:
        allowed_addresses.parse_users(users)
        return users

    @field_validator("mcp_servers", mode="before")
    @classmethod
    def _no_file(cls, path: object) -> object:
        """An empty variable is the same as none."""
        return path or None

    @field_validator("mcp_allow")
    @classmethod
    def _destinations(cls, destinations: str) -> str:
        AllowList.parse(destinations)
        return destinations

    @field_validator("network_allow")
    @classmethod
    def _network_allow(cls, text: str) -> str:
        network_policy.parse_allow(text)
        return text

    @field_validator("prefab_authors")
    @classmethod
    def _authors(cls, authors: str) -> str:
        for author in _items(authors):
            if author != "*" and not re.fullmatch(r"[^@\s;,]+@[^@\s;,]+", author):
                raise ValueError(f"{author!r} is no e-mail address; give them with commas between")
        return authors

    @field_validator("public_url", "s3_endpoint")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        try:
            return checked_base_url(url) if url else None
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key belong together")
        if self.s3_bucket is None and (self.s3_endpoint or self.s3_region or self.s3_access_key_id):
            raise ValueError("s3_bucket is needed where anything else of s3 is given")
        return self

    @field_validator("agent_paths")
    @classmethod
    def _paths(cls, paths: str) -> str:
        for path in _items(paths):
            if not path.removesuffix("=rw").startswith(("/", "~/")):
                raise ValueError(f"{path!r} is no absolute path; give them with commas between")
        return paths

    def agent_ws_users(self) -> list[AddressUser]:
        """Return what ``agent_ws_allow`` names."""
        return allowed_addresses.parse_users(self.agent_ws_allow)

    def network_destinations(self) -> list[Destination]:
        """Return what ``network_allow`` names."""
        return network_policy.parse_allow(self.network_allow)

    def agent_binds(self) -> list[Bind]:
        """What ``agent_paths`` names."""
        return [
            Bind(_normalized(path.removesuffix("=rw")), path.endswith("=rw"), origin=_AGENT_PATHS)
            for path in _items(self.agent_paths)
        ]

    def is_tool(self, prefab_id: str) -> bool:
        """Whether ``prefab_tools`` names this prefab."""
        return any(fnmatchcase(prefab_id, name) for name in _items(self.prefab_tools))

    def may_add_prefabs(self, email: str) -> bool:
        """Whether ``prefab_authors`` names this address."""
        named = [item.lower() for item in _items(self.prefab_authors)]
        return "*" in named or email.lower() in named

    def agent_environ(self) -> dict[str, str]:
        """The variables that ``agent_env`` names, as far as there are such."""
        return {name: os.environ[name] for name in _items(self.agent_env) if name in os.environ}


def _normalized(path: str) -> str:
    """Return an absolute path without ``~``, ``..`` and repeated slashes."""
    return "/" + os.path.normpath(os.path.expanduser(path)).lstrip("/")


def _items(text: str) -> list[str]:
    return [item for item in map(str.strip, text.split(",")) if item]
