"""Selection of the server and the account; saved profiles."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from beray import BeRayClient, config
from beray.config import LOCAL, Profiles, Target, resolve, write_private_file
from beray.exceptions import ConfigurationError
from beray.testing import access_token

WORK = "https://work.example"


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    return Profiles(tmp_path / "deep" / "profiles.json")


def test_nothing_configured_means_the_embedded_server(profiles: Profiles) -> None:
    assert resolve(profiles, environ={}) is None
    assert resolve(profiles, environ={"BERAY_TOKEN": "t"}) is None
    assert resolve(profiles, profile=LOCAL, environ={"BERAY_URL": WORK}) is None


def test_a_sign_in_is_saved_and_becomes_current(profiles: Profiles) -> None:
    target = resolve(profiles, url=f"{WORK}/", environ={})
    assert target == Target(WORK, "work.example")
    profiles.sign_in(target, "tok", "me@work.example")
    again = Profiles(profiles.path)
    assert again.current == "work.example"
    expected = Target(WORK, "work.example", "tok", "me@work.example")
    assert resolve(again, environ={}) == expected
    assert resolve(again, url=WORK, environ={}) == expected
    assert resolve(again, profile="work.example", environ={}) == expected
    again.sign_out("work.example")
    signed_out = resolve(Profiles(profiles.path), environ={})
    assert signed_out == Target(WORK, "work.example", None, "me@work.example")


def test_the_precedence_of_arguments_and_environment(profiles: Profiles) -> None:
    for name in ("a", "b", "c"):
        profiles.sign_in(Target(f"http://{name}", name), f"tok-{name}", "e")
    environ = {"BERAY_URL": "http://d", "BERAY_PROFILE": "b"}

    def url(**given: str) -> str | None:
        found = resolve(profiles, environ=environ, **given)
        return found.url if found else None

    assert url(url="http://x", profile="a") == "http://x"
    assert url(profile="a") == "http://a"
    assert url() == "http://d"
    del environ["BERAY_URL"]
    assert url() == "http://b"
    del environ["BERAY_PROFILE"]
    assert url() == "http://c"


def test_a_token_goes_to_its_own_server_only(profiles: Profiles) -> None:
    profiles.sign_in(Target(WORK, "work"), "saved", "e")
    environ = {"BERAY_URL": WORK, "BERAY_TOKEN": "env"}

    def token(**given: str) -> str | None:
        found = resolve(profiles, environ=environ, **given)
        return found.token if found else None

    assert token() == "env"
    assert token(url="https://work.example:443/") == "env"
    assert token(url="http://work.example") is None
    assert token(url="https://other.example") is None
    assert token(url="https://other.example", profile="work") is None
    del environ["BERAY_URL"]
    assert token(url="https://other.example") == "env"


def test_the_error_for_an_unknown_profile_lists_the_known_ones(profiles: Profiles) -> None:
    profiles.sign_in(Target(WORK, "work"), "t", "e")
    with pytest.raises(ConfigurationError, match="local, work"):
        resolve(profiles, profile="nonesuch", environ={})
    with pytest.raises(ConfigurationError):
        profiles.use("nonesuch")
    profiles.use(LOCAL)
    assert resolve(Profiles(profiles.path), environ={}) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"profiles": 5}',
        '{"profiles": {"a": {}}}',
        '{"profiles": {"a": {"url": "x"}}}',
    ],
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profiles.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"profiles\.json"):
        Profiles(path)
    assert path.read_text() == text


def test_no_repr_contains_a_token() -> None:
    assert "tok" not in repr(Target("http://x", "p", "tok"))


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_profiles_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_private_file(path, "one")
    path.chmod(0o644)
    write_private_file(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_profiles_saved_by_other_processes_are_kept(profiles: Profiles) -> None:
    others = [Profiles(profiles.path) for _ in range(3)]
    for number, other in enumerate(others):
        other.sign_in(Target(f"http://{number}", f"p{number}"), "tok", "e")
    others[0].use("p0")
    others[1].sign_out("p2")
    saved = Profiles(profiles.path)
    assert saved.names() == ["p0", "p1", "p2"]
    assert saved.current == "p0"
    tokens = [profile.token for name in saved.names() if (profile := saved.get(name))]
    assert tokens == ["tok", "tok", None]


def test_concurrent_logins_lose_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    script = (
        "import sys; from pathlib import Path; from beray.config import Profiles, Target\n"
        "profiles = Profiles(Path(sys.argv[1])); input()\n"
        "for n in range(10):\n"
        "    name = f'{sys.argv[2]}-{n}'\n"
        "    profiles.sign_in(Target(f'http://{name}', name), 'tok', 'e')\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    logins = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for login in logins:
        assert login.stdin is not None
        login.stdin.write("go\n")
        login.stdin.flush()
    for login in logins:
        login.communicate(timeout=60)
    assert [login.returncode for login in logins] == [0] * 4
    assert len(Profiles(path).names()) == 40


def test_a_settings_file_that_stays_locked_is_an_error(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LOCK_SECONDS", 0.05)
    with (
        config.file_lock(profiles.path),
        pytest.raises(ConfigurationError, match="locked by another"),
    ):
        profiles.sign_in(Target(WORK, "work"), "tok", "e")
    profiles.sign_in(Target(WORK, "work"), "tok", "e")
    assert Profiles(profiles.path).names() == ["work"]


def test_a_client_from_the_environment(
    beray_client: BeRayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, user = beray_client.base_url, beray_client.get_current_user()
    token = access_token(beray_client)
    monkeypatch.setenv("BERAY_URL", f"{url}/")
    monkeypatch.setenv("BERAY_TOKEN", token)
    with BeRayClient.from_env(max_retries=0) as client:
        assert (client.base_url, client.get_current_user()) == (url, user)
    Profiles().sign_in(Target(url, "work"), token, "me@work.example")
    monkeypatch.delenv("BERAY_URL")
    monkeypatch.delenv("BERAY_TOKEN")
    for client in (BeRayClient.from_env("work"), BeRayClient.from_env()):
        assert client.get_current_user() == user
    monkeypatch.setenv("BERAY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BERAY_TOKEN", "of another server")
    assert BeRayClient.from_env("work").get_current_user() == user
    with pytest.raises(ConfigurationError, match="profile 'other' does not exist"):
        BeRayClient.from_env("other")
