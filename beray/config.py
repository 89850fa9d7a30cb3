"""Which server, as whom: profiles, environment, credentials.

A profile is a server with the account that is used there. Profiles and their tokens
live in one file that only its owner may read, written whole or not at all.
``local`` is the profile of the user's own embedded server; it needs no entry.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from beray.exceptions import ConfigurationError, InvalidArgument

LOCAL: Final = "local"
LOCK_SECONDS: Final = 10.0


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the user's data: ``BERAY_HOME``, or the platform's usual place.

    Raises:
        ConfigurationError: the user has no home directory (no ``HOME`` and no passwd entry, as
            with ``docker run --user 12345``), or ``BERAY_HOME`` begins with an unknown ``~user``.
    """
    configured = environ.get("BERAY_HOME")
    if configured:
        expanded = os.path.expanduser(configured)
        if expanded.startswith("~"):
            raise ConfigurationError(
                f"BERAY_HOME is {configured!r}, whose home directory is unknown; "
                "set it to an absolute path"
            )
        return Path(expanded).absolute()
    import platformdirs

    try:
        found = Path(platformdirs.user_data_dir("beray", False))
    except RuntimeError:
        found = Path()
    # Without a home directory, versions of platformdirs raise or leave the "~" in place.
    if not found.is_absolute():
        raise ConfigurationError(
            "this user has no home directory (HOME is not set, and there is no passwd entry); "
            "set BERAY_HOME to a writable directory"
        )
    return found


def checked_base_url(base_url: str) -> str:
    """Return ``base_url`` without a trailing slash.

    Raises:
        ConfigurationError: unless it is an http(s) URL with a host and without credentials.
    """
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("the server's URL must look like http://host:port")
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the server's URL must not hold a user name or password; sign in instead"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("the server's URL must not have a query or a fragment")
    return url


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what a credential belongs to (RFC 6454)."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine itself."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


@dataclass(frozen=True)
class Target:
    """A server to talk to. ``token`` belongs to ``url`` and goes nowhere else."""

    url: str
    profile: str
    token: str | None = field(default=None, repr=False)
    email: str | None = None
    embedded: bool = False


@dataclass(frozen=True)
class Profile:
    url: str
    email: str | None = None
    token: str | None = field(default=None, repr=False)


class Profiles:
    """The saved profiles.

    They are read once. A change is applied, under a lock, to what the file contains at that
    moment, so that profiles saved by other processes are kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.current: str | None = None
        self._profiles: dict[str, Profile] = {}
        if path is None:
            # BERAY_URL and BERAY_TOKEN are enough for a script without a home directory.
            with suppress(ConfigurationError):
                self._path = home() / "profiles.json"
        if self._path is not None:
            self.current, self._profiles = _read(self._path)

    @property
    def path(self) -> Path:
        """Path of the file.

        Raises:
            ConfigurationError: the user has no home directory.
        """
        return self._path or home() / "profiles.json"

    def names(self) -> list[str]:
        return sorted(self._profiles)

    def get(self, name: str) -> Profile | None:
        return self._profiles.get(name)

    def sign_in(self, target: Target, token: str, email: str) -> Target:
        """Save ``token`` in the profile of ``target``, and make that the current one.

        Raises:
            ConfigurationError, OSError: the file cannot be changed.
        """
        with self._changing():
            self._profiles[target.profile] = Profile(target.url, email, token)
            self.current = target.profile
        return replace(target, token=token, email=email)

    def sign_out(self, name: str) -> None:
        """Remove the token of a profile; its server and e-mail address are kept.

        Raises:
            ConfigurationError, OSError: the file cannot be changed.
        """
        with self._changing():
            profile = self._profiles.get(name)
            if profile is not None:
                self._profiles[name] = replace(profile, token=None)

    def use(self, name: str) -> None:
        """Make ``name`` the current profile.

        Raises:
            ConfigurationError: there is no such profile, or the file cannot be changed.
            OSError: the file cannot be changed.
        """
        with self._changing():
            if name != LOCAL and name not in self._profiles:
                raise ConfigurationError(self.unknown(name))
            self.current = name

    def unknown(self, name: str) -> str:
        known = ", ".join([LOCAL, *self.names()])
        return f"there is no profile {name!r} (known: {known}); make one with beray login"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read the file again, and write what the body makes of the profiles."""
        with locked(self.path):
            self.current, self._profiles = _read(self.path)
            yield
            profiles = {name: asdict(profile) for name, profile in self._profiles.items()}
            write_private(self.path, json.dumps({"current": self.current, "profiles": profiles}))


def resolve(
    profiles: Profiles,
    *,
    url: str | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target | None:
    """Decide which server is meant; ``None`` means the user's own embedded one.

    The first that is given wins: ``url``, ``profile``, ``BERAY_URL``, ``BERAY_PROFILE``,
    the current profile. ``BERAY_TOKEN`` is used for the server of ``BERAY_URL``, and for
    an explicit ``url`` or ``profile`` only where ``BERAY_URL`` names the same server or
    none at all.

    Raises:
        ConfigurationError: for an unusable URL or an unknown profile.
    """
    env_url, env_profile = environ.get("BERAY_URL"), environ.get("BERAY_PROFILE")
    if url is None and profile is None:
        url = env_url or None
    if url is not None and profile is None:
        checked = checked_base_url(url)
        name, saved = _saved_for(profiles, checked)
        chosen = Target(checked, name, saved.token, saved.email)
    else:
        name = profile or env_profile or profiles.current or LOCAL
        known = profiles.get(name)
        if url is not None:
            # A profile by this name is about to be made, or used at another address.
            checked = checked_base_url(url)
            same = known is not None and origin(known.url) == origin(checked)
            kept = known if known is not None and same else Profile(checked)
            chosen = Target(checked, name, kept.token, kept.email)
        elif name == LOCAL:
            return None
        elif known is None:
            raise ConfigurationError(profiles.unknown(name))
        else:
            chosen = Target(known.url, name, known.token, known.email)
    token = environ.get("BERAY_TOKEN")
    if token and (not env_url or origin(checked_base_url(env_url)) == origin(chosen.url)):
        return replace(chosen, token=token, email=None)
    return chosen


def _saved_for(profiles: Profiles, url: str) -> tuple[str, Profile]:
    """The profile at ``url``, or the name that a new one would get."""
    for name in profiles.names():
        saved = profiles.get(name)
        if saved is not None and origin(saved.url) == origin(url):
            return name, saved
    return urlsplit(url).netloc, Profile(url)


def checked_token(token: str) -> str:
    """Return an access token, without the prefix ``Bearer `` of a copied header.

    Raises:
        InvalidArgument: A header cannot carry ``token``, which is not repeated in the message.
    """
    if isinstance(token, str) and token[:7].lower() == "bearer ":
        token = token[7:].strip()
    if not isinstance(token, str) or not token or not all("!" <= letter <= "~" for letter in token):
        raise InvalidArgument("token must consist of printable ASCII characters without spaces")
    return token


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a settings file, so that no other process changes it meanwhile.

    Raises:
        ConfigurationError: another process holds it for more than ``LOCK_SECONDS``.
        OSError: its directory cannot be created or written to.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"{path} is locked by another process for more than {LOCK_SECONDS:g} s; "
            "end that process and try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` at once, readable by its owner alone from its first byte."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp opens with mode 0600.
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[str | None, dict[str, Profile]]:
    try:
        stored: Any = json.loads(path.read_text("utf-8"))
        profiles = {
            str(name): Profile(
                checked_base_url(entry["url"]), entry.get("email"), entry.get("token")
            )
            for name, entry in stored["profiles"].items()
        }
        return stored.get("current"), profiles
    except FileNotFoundError:
        return None, {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigurationError):
        raise ConfigurationError(
            f"{path} does not contain valid profiles; fix or remove it, then sign in again"
        ) from None
