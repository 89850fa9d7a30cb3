"""Settings of the server that depend on several variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from beray.server.settings import Settings


@pytest.mark.parametrize(
    ("address", "embedded", "environ", "shared"),
    [
        ("127.0.0.1", False, {}, False),
        ("127.8.9.1", False, {}, False),
        ("::1", False, {}, False),
        ("0.0.0.0", False, {}, True),
        ("::", False, {}, True),
        ("192.0.2.7", False, {}, True),
        ("fe80::1%eth0", False, {}, True),
        ("127.0.0.1", False, {"BERAY_PUBLIC_URL": "https://beray.example"}, True),
        ("127.0.0.1", False, {"BERAY_TRUSTED_PROXIES": "127.0.0.1"}, True),
        ("127.0.0.1", True, {"BERAY_PUBLIC_URL": "https://beray.example"}, False),
    ],
)
def test_shared_servers_are_those_that_others_can_reach(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str,
    embedded: bool,
    environ: dict[str, str],
    shared: bool,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    settings = Settings(data_dir=tmp_path)
    settings.set_listener(address, embedded=embedded)
    assert settings.shared is shared


@pytest.mark.parametrize(
    ("address", "environ", "expected"),
    [
        ("192.0.2.7", {}, (3, 7, 1, 100, 21_600.0)),
        ("192.0.2.7", {"BERAY_SLOTS": "1"}, (1, 7, 1, 100, 21_600.0)),
        ("192.0.2.7", {"BERAY_USER_SLOTS": "2"}, (2, 7, 1, 100, 21_600.0)),
        ("192.0.2.7", {"BERAY_USER_SLOTS": "0"}, (None, 7, 1, 100, 21_600.0)),
        ("192.0.2.7", {"BERAY_USER_QUEUED": "5"}, (3, 7, 1, 5, 21_600.0)),
        ("192.0.2.7", {"BERAY_USER_QUEUED": "0"}, (3, 7, 1, None, 21_600.0)),
        ("192.0.2.7", {"BERAY_TASK_SECONDS": "60"}, (3, 7, 1, 100, 60.0)),
        ("192.0.2.7", {"BERAY_TASK_SECONDS": "0"}, (3, 7, 1, 100, None)),
        ("127.0.0.1", {}, (None, None, None, None, None)),
        ("127.0.0.1", {"BERAY_USER_SLOTS": "2", "BERAY_USER_QUEUED": "3",
                       "BERAY_TASK_SECONDS": "4"}, (2, None, None, 3, 4.0)),
    ],
)  # fmt: skip
def test_limits_of_users_have_defaults_on_shared_servers_only(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str,
    environ: dict[str, str],
    expected: tuple[float | None, ...],
) -> None:
    slots = {"BERAY_SLOTS": "4", "BERAY_CHAT_SLOTS": "8", "BERAY_PREFAB_SLOTS": "2"}
    for name, value in (slots | environ).items():
        monkeypatch.setenv(name, value)
    settings = Settings(data_dir=tmp_path)
    settings.set_listener(address, embedded=False)
    assert expected == (
        settings.slots_per_user,
        settings.chat_slots_per_user,
        settings.prefab_slots_per_user,
        settings.queued_per_user,
        settings.max_task_seconds,
    )
