"""What a call gives: shown as it comes, and its files taken."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from beray.cli import output
from beray.cli.errors import DONE, FAILED
from beray.cli.progress import Bars
from beray.exceptions import ConfigurationError, InvalidResponseError
from beray.gateway import GatewayClient, PrefabResult, PrefabStream, StreamEvent, StreamEventType
from beray.sanitize import printable
from beray.transfers.local_files import require_absent
from beray.transfers.local_names import local_path

_OF_A_FILE: Final = re.compile(r"s3://[^/]+/(?:.*[^/])")
Planned = tuple[str, str, Path]
"""A key, a URL and a local place."""


def watched(stream: PrefabStream, as_json: bool) -> PrefabResult:
    """Show the pieces of a streamed call as they come; what it ends with.

    Raises:
        GatewayError: it cannot begin, or breaks off.
    """
    flow = output.Flow()
    with stream:
        for event in stream:
            if as_json:
                output.json_line({"type": str(event.type), "data": event.data})
            else:
                _show(event, flow)
    flow.end_line()
    return stream.result or PrefabResult("FAILED")


def _show(event: StreamEvent, flow: output.Flow) -> None:
    if event.type == StreamEventType.CONTENT:
        if isinstance(event.data, str):
            flow.write(event.data)
        else:
            flow.end_line()
            flow.write(_json(event.data) + "\n")
    elif event.type == StreamEventType.PROGRESS and isinstance(event.data, dict):
        fraction, message = event.data.get("fraction"), event.data.get("message") or ""
        known = isinstance(fraction, int | float) and 0 <= fraction <= 1
        flow.note(f"-- {f'{fraction:.0%} ' if known else ''}{message}".rstrip())


def show(result: PrefabResult, as_json: bool, saved: dict[str, list[str]] | None) -> int:
    """Show how a call ended, and return the exit status.

    Args:
        saved: where its files were put; ``None``: nowhere.
    """
    succeeded = result.is_success()
    if as_json:
        told = {
            "status": str(result.status),
            "job_id": result.job_id,
            "output": result.output,
            "error": result.error,
        }
        output.json_line(told if saved is None else told | {"saved": saved})
        return DONE if succeeded else FAILED
    if not succeeded:
        _explain(result.error)
        return FAILED
    if content := result.get("content"):
        output.line(_json(content))
    output.line(_json(result.get_function_result()))
    files = result.get_files() if saved is None else saved
    for key, places in files.items():
        for place in places:
            output.note(f"{key}: {place}")
    if files and saved is None:
        output.note("-- beray prefab get URL... [--out FOLDER] saves files by their s3:// URLs")
    return DONE


def _explain(error: Any) -> None:
    told = error if isinstance(error, dict) else {"message": str(error)}
    if trace := told.get("traceback"):
        output.quotation(str(trace))
    code = f"{told['code']}: " if told.get("code") else ""
    output.problem(f"{code}{told.get('message') or 'the call failed'}")


def take(
    client: GatewayClient,
    result: PrefabResult,
    folder: Path,
    begin: Bars,
    *,
    overwrite: bool,
    inputs: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Download the files of a result into ``folder``; where each is, by key.

    Args:
        inputs: local files that went in: they are replaced in no case.

    Raises:
        ConfigurationError: an output would replace one of ``inputs``.
        FileExistsError: some are there, which it names; nothing was downloaded.
        InvalidResponseError: one has a name that cannot be had here.
    """
    planned = plan(result, folder)
    for _, _, place in planned:
        if any(place.exists() and os.path.exists(one) and place.samefile(one) for one in inputs):
            raise ConfigurationError(f"{place} is what was given with --file; --out another folder")
    saved: dict[str, list[str]] = {}
    for (key, _, _), place in zip(planned, _saved(client, planned, begin, overwrite), strict=True):
        saved.setdefault(key, []).append(output.path_text(place))
    return saved


def fetch(
    client: GatewayClient, urls: Sequence[str], folder: Path, begin: Bars, *, overwrite: bool
) -> list[Path]:
    """Download files by their URLs into ``folder``; where each is.

    Raises:
        ConfigurationError: one is no URL of a file, or is given twice.
        FileExistsError: some are there, which it names; nothing was downloaded.
    """
    for url in urls:
        if not _OF_A_FILE.fullmatch(url):
            raise ConfigurationError(f"{url} is no s3://bucket/key URL of a file")
    if len(set(urls)) < len(urls):
        raise ConfigurationError("a URL is given twice")
    # What holds a file is the key of the output that it is of.
    planned = _places([(url.split("/")[-2], url) for url in urls], folder)
    return _saved(client, planned, begin, overwrite)


def _saved(
    client: GatewayClient, planned: Sequence[Planned], begin: Bars, overwrite: bool
) -> list[Path]:
    places = [place for _, _, place in planned]
    if len(set(places)) < len(places):
        raise ConfigurationError("several of these files have one name; save them one by one")
    require_absent(*places, overwrite=overwrite)
    for _, url, place in planned:
        place.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(url, place, overwrite=overwrite, transfer=begin(place.name))
    return places


def require_folder(folder: Path) -> None:
    """See to it, before anything is asked for, that files can be put into ``folder``.

    Raises:
        ConfigurationError: it is something else than a folder, or is below a file.
        OSError: nothing can be made there.
    """
    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigurationError(f"--out {folder}: {there.name} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def plan(result: PrefabResult, folder: Path) -> list[Planned]:
    """Keys, URLs and places: in folders by key where two files have one name."""
    urls: list[tuple[str, str]] = []
    for key, several in result.get_files().items():
        for url in several if isinstance(several, list) else ():
            if not isinstance(url, str):
                raise InvalidResponseError("the server names files by what is no URL", body="")
            urls.append((key, url))
    return _places(urls, folder)


def _places(urls: Sequence[tuple[str, str]], folder: Path) -> list[Planned]:
    names = [url.rpartition("/")[2] for _, url in urls]
    twice = len({name.casefold() for name in names}) < len(names)
    return [
        (key, url, local_path(folder, f"{key}/{name}" if twice else name))
        for (key, url), name in zip(urls, names, strict=True)
    ]


def _json(value: Any) -> str:
    """JSON that passes the gate to the terminal as it is: what acts on one is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(map(_escaped, text)) if printable(text) != text else text


def _escaped(letter: str) -> str:
    return letter if printable(letter) == letter else json.dumps(letter)[1:-1]
