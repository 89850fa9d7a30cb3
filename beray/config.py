"""Client configuration: profiles, environment variables and saved tokens.

A profile is a server and the account that is used there. Profiles and their tokens are stored in
one file that only the user can read and that is written atomically. ``local`` is the profile of
the user's embedded server and needs no entry.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from beray.exceptions import ConfigurationError, InvalidArgument

LOCAL: Final = "local"
"""Name of the profile of the embedded server."""
LOCK_SECONDS: Final = 10.0
"""Time to wait for the lock of a settings file."""


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the user's data: ``BERAY_HOME``, or the platform's data directory.

    Raises:
        ConfigurationError: The user has no home directory (no ``HOME`` and no passwd entry, as
            with ``docker run --user 12345``), or ``BERAY_HOME`` begins with an unknown ``~user``.
    """
    configured = environ.get("BERAY_HOME")
    if configured:
        expanded = os.path.expanduser(configured)  # noqa: PTH111 - does not raise
        if expanded.startswith("~"):
            raise ConfigurationError(
                f"cannot expand BERAY_HOME={configured!r}: the user is unknown; "
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
        ConfigurationError: The URL has another scheme than http or https, no host, credentials, a
            query or a fragment.
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
            "the server's URL must not contain a user name or password; sign in instead"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("the server's URL must not contain a query or a fragment")
    return url


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL, to which credentials are bound (RFC 6454)."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def is_loopback(url: str) -> bool:
    """Return True if the host of ``url`` is ``localhost`` or a loopback address."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


@dataclass(frozen=True)
class Target:
    """Server and account that a command or client uses.

    Attributes:
        url: URL of the server.
        profile: Name of the profile.
        token: Access token, which is sent only to ``url``.
        email: Address of the account, if it is known.
        embedded: True for the user's embedded server.
    """

    url: str
    profile: str
    token: str | None = field(default=None, repr=False)
    email: str | None = None
    embedded: bool = False


@dataclass(frozen=True)
class Profile:
    """Saved server and account; ``token`` is None after signing out."""

    url: str
    email: str | None = None
    token: str | None = field(default=None, repr=False)


class Profiles:
    """Saved profiles.

    The file is read once. Each change re-reads it under a lock, so that profiles saved by other
    processes are kept.

    Args:
        path: Path of the file; None for the default below ``home()``.

    Attributes:
        current: Name of the current profile, if there is one.

    Raises:
        ConfigurationError: The file is invalid.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.current: str | None = None
        self._profiles: dict[str, Profile] = {}
        if path is None:
            # A user without a home directory can still use BERAY_URL and BERAY_TOKEN.
            with suppress(ConfigurationError):
                self._path = home() / "profiles.json"
        if self._path is not None:
            self.current, self._profiles = _read(self._path)

    @property
    def path(self) -> Path:
        """Path of the file.

        Raises:
            ConfigurationError: The user has no home directory.
        """
        return self._path or home() / "profiles.json"

    def names(self) -> list[str]:
        """Return the names of all profiles, sorted."""
        return sorted(self._profiles)

    def get(self, name: str) -> Profile | None:
        """Return a profile; None if it does not exist."""
        return self._profiles.get(name)

    def sign_in(self, target: Target, token: str, email: str) -> Target:
        """Save ``token`` in the profile of ``target``, and make it the current profile.

        Args:
            target: Server and profile.
            token: Access token.
            email: Address of the account.

        Returns:
            ``target`` with the token and the address.

        Raises:
            ConfigurationError: The file is invalid or locked by another process.
            OSError: The file cannot be written.
        """
        with self._change():
            self._profiles[target.profile] = Profile(target.url, email, token)
            self.current = target.profile
        return replace(target, token=token, email=email)

    def sign_out(self, name: str) -> None:
        """Remove the token of a profile; its server and e-mail address are kept.

        Raises:
            ConfigurationError: The file is invalid or locked by another process.
            OSError: The file cannot be written.
        """
        with self._change():
            profile = self._profiles.get(name)
            if profile is not None:
                self._profiles[name] = replace(profile, token=None)

    def set_email(self, name: str, email: str) -> None:
        """Save the changed e-mail address of a profile's account.

        Raises:
            ConfigurationError: The file is invalid or locked by another process.
            OSError: The file cannot be written.
        """
        with self._change():
            profile = self._profiles.get(name)
            if profile is not None:
                self._profiles[name] = replace(profile, email=email)

    def use(self, name: str) -> None:
        """Make ``name`` the current profile.

        Raises:
            ConfigurationError: The profile does not exist, or the file is invalid or locked by
                another process.
            OSError: The file cannot be written.
        """
        with self._change():
            if name != LOCAL and name not in self._profiles:
                raise ConfigurationError(self.unknown_profile_message(name))
            self.current = name

    def unknown_profile_message(self, name: str) -> str:
        """Return the message of an error about a profile that does not exist."""
        known = ", ".join([LOCAL, *self.names()])
        return (
            f"profile {name!r} does not exist (known profiles: {known}); create it with "
            f"beray login --url URL --profile {shlex.quote(name)}"
        )

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Re-read the file, and write the profiles after the block has changed them."""
        with file_lock(self.path):
            self.current, self._profiles = _read(self.path)
            yield
            profiles = {name: asdict(profile) for name, profile in self._profiles.items()}
            write_private_file(
                self.path, json.dumps({"current": self.current, "profiles": profiles})
            )


def resolve(
    profiles: Profiles,
    *,
    url: str | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target | None:
    """Return the server to use; ``None`` stands for the user's embedded server.

    The first of these that is set determines the server: ``url``, ``profile``, ``BERAY_URL``,
    ``BERAY_PROFILE``, the current profile. ``BERAY_TOKEN`` is used for the server of
    ``BERAY_URL``. For an explicit ``url`` or ``profile`` it is used only if ``BERAY_URL`` is the
    same server or is not set.

    Args:
        profiles: Saved profiles.
        url: URL of a server.
        profile: Name of a profile.
        environ: Environment variables.

    Raises:
        ConfigurationError: A URL is invalid, or the profile does not exist.
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
            # The profile is about to be created, or to be used at another address.
            checked = checked_base_url(url)
            same = known is not None and origin(known.url) == origin(checked)
            entry = known if known is not None and same else Profile(checked)
            chosen = Target(checked, name, entry.token, entry.email)
        elif name == LOCAL:
            return None
        elif known is None:
            raise ConfigurationError(profiles.unknown_profile_message(name))
        else:
            chosen = Target(known.url, name, known.token, known.email)
    token = environ.get("BERAY_TOKEN")
    if token and (not env_url or origin(checked_base_url(env_url)) == origin(chosen.url)):
        return replace(chosen, token=token, email=None)
    return chosen


def _saved_for(profiles: Profiles, url: str) -> tuple[str, Profile]:
    """Return the profile of ``url`` with its name; a new one if none is saved."""
    for name in profiles.names():
        saved = profiles.get(name)
        if saved is not None and origin(saved.url) == origin(url):
            return name, saved
    return urlsplit(url).netloc, Profile(url)


def checked_token(token: str) -> str:
    """Return an access token, without the prefix ``Bearer `` of a copied header.

    Raises:
        InvalidArgument: The token contains characters that a header cannot carry. The message does
            not contain it.
    """
    if isinstance(token, str) and token[:7].lower() == "bearer ":
        token = token[7:].strip()
    if not isinstance(token, str) or not token or not all("!" <= letter <= "~" for letter in token):
        raise InvalidArgument("token must consist of printable ASCII characters without spaces")
    return token


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Lock a settings file against changes by other processes.

    Raises:
        ConfigurationError: Another process held the lock for more than ``LOCK_SECONDS``.
        OSError: The directory of the file cannot be created or written to.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"{path} has been locked by another process for more than {LOCK_SECONDS:g} s; "
            "end that process and try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_private_file(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, readable only by the user at any time.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp creates files with mode 0600.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
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
