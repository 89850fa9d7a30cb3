"""What the owner of a server can set: environment variables that start with ``BERAY_``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
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
