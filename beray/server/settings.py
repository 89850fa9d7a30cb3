"""What the owner of a server can set: environment variables that start with ``BERAY_``."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="BERAY_", extra="ignore")

    data_dir: Path = Path("beray-data")
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """How many tasks run at once."""

    model: str | None = None
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    """``auto`` takes bubblewrap where it works; ``bubblewrap`` refuses to start without it."""
    sandbox_network: bool = False
    """Whether a task's commands may reach the network. Without bubblewrap they always can."""
    tree_limit: int = Field(default=10_000, ge=1)
    """How many entries a listing of files may have."""

    task_output_bytes: int = Field(default=256 * 1024**2, ge=1)
    """How much a task may put into its event log before it is ended."""
    task_max_file_bytes: int = Field(default=16 * 1024**3, ge=1)
    """How large a file a task's command may write."""
    task_max_open_files: int = Field(default=4096, ge=16)
    task_max_processes: int = Field(default=4096, ge=1)
    """How many processes a command's user may have. The system does not bind root by it."""

    trusted_proxies: str = ""
    """Addresses and networks, with commas, whose ``X-Forwarded-For`` says who a client is."""

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

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, proxies: str) -> str:
        """What uvicorn does not understand, it would take as a name that nobody has."""
        for proxy in filter(None, map(str.strip, proxies.split(","))):
            try:
                ip_network(proxy)
            except ValueError:
                raise ValueError("give addresses and networks, with commas between") from None
        return proxies.strip()
