"""Settings of the server that follow from several variables."""

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
