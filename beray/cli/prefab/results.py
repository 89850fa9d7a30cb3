"""Results of prefab calls: output of values and errors, and downloads of output files."""

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
from beray.cli.progress import StartBar
from beray.exceptions import ConfigurationError, InvalidResponseError
from beray.gateway import (
    GatewayClient,
    PrefabResult,
    PrefabStream,
    StreamEvent,
    StreamEventType,
)
from beray.sanitize import printable
from beray.transfers.local_files import require_absent
from beray.transfers.local_names import local_path

_FILE_URL: Final = re.compile(r"s3://[^/]+/(?:.*[^/])")
PlannedOutput = tuple[str, str, Path]
"""Key, URL and local path of an output file."""


def show_stream(stream: PrefabStream, as_json: bool) -> PrefabResult:
    """Show the values of a streamed call as they arrive, and return its result.

    Raises:
        GatewayError: The call was rejected, or the stream broke off.
    """
    writer = output.TextWriter()
    with stream:
        for event in stream:
            if as_json:
                output.json_line({"type": str(event.type), "data": event.data})
            else:
                _show_event(event, writer)
    writer.end_line()
    return stream.result or PrefabResult("FAILED")


def _show_event(event: StreamEvent, writer: output.TextWriter) -> None:
    if event.type == StreamEventType.CONTENT:
        if isinstance(event.data, str):
            writer.write(event.data)
        else:
            writer.end_line()
            writer.write(_json(event.data) + "\n")
    elif event.type == StreamEventType.PROGRESS and isinstance(event.data, dict):
        fraction, message = event.data.get("fraction"), event.data.get("message") or ""
        known = isinstance(fraction, int | float) and 0 <= fraction <= 1
        writer.note(f"-- {f'{fraction:.0%} ' if known else ''}{message}".rstrip())


def show_result(result: PrefabResult, as_json: bool, saved: dict[str, list[str]] | None) -> int:
    """Show the result of a call, and return the exit status.

    Args:
        result: Result of the call.
        as_json: Whether to write one JSON object.
        saved: Local paths of the output files by key; None if they were not downloaded.
    """
    succeeded = result.is_success()
    if as_json:
        fields = {
            "status": str(result.status),
            "job_id": result.job_id,
            "output": result.output,
            "error": result.error,
        }
        output.json_line(fields if saved is None else fields | {"saved": saved})
        return DONE if succeeded else FAILED
    if not succeeded:
        _show_error(result.error)
        return FAILED
    if content := result.get("content"):
        output.line(_json(content))
    output.line(_json(result.get_function_result()))
    files = result.get_files() if saved is None else saved
    for key, locations in files.items():
        for location in locations:
            output.note(f"{key}: {location}")
    if files and saved is None:
        output.note("-- `beray prefab get URL... [--out DIR]` downloads files by their s3:// URLs")
    return DONE


def _show_error(error: Any) -> None:
    fields = error if isinstance(error, dict) else {"message": str(error)}
    if trace := fields.get("traceback"):
        output.quote(str(trace))
    code = f"{fields['code']}: " if fields.get("code") else ""
    output.error(f"{code}{fields.get('message') or 'the call failed'}")


def save_outputs(
    client: GatewayClient,
    result: PrefabResult,
    directory: Path,
    start_bar: StartBar,
    *,
    overwrite: bool,
    inputs: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Download the output files of a result to ``directory``.

    Args:
        client: Client of the gateway.
        result: Result of the call.
        directory: Target directory, created if missing.
        start_bar: Starts the progress bar of a file.
        overwrite: Whether to replace existing files.
        inputs: Local input files of the call, which are never replaced.

    Returns:
        Local paths of the files by key.

    Raises:
        ConfigurationError: An output would replace one of ``inputs``, or two outputs would get the
            same local path.
        FileExistsError: Some files exist (the message names one); nothing was downloaded.
        InvalidResponseError: The name of an output is invalid on this system.
    """
    planned = plan_outputs(result, directory)
    for _, _, path in planned:
        if any(path.exists() and Path(other).exists() and path.samefile(other) for other in inputs):
            raise ConfigurationError(
                f"the output {path} would replace an input file; pass another directory to --out"
            )
    paths = _download_planned(client, planned, start_bar, overwrite)
    saved: dict[str, list[str]] = {}
    for (key, _, _), path in zip(planned, paths, strict=True):
        saved.setdefault(key, []).append(output.path_text(path))
    return saved


def save_urls(
    client: GatewayClient,
    urls: Sequence[str],
    directory: Path,
    start_bar: StartBar,
    *,
    overwrite: bool,
) -> list[Path]:
    """Download files by their URLs to ``directory``, and return their local paths.

    Raises:
        ConfigurationError: A URL is not the ``s3://`` URL of a file, or is repeated, or two files
            would get the same local path.
        FileExistsError: Some files exist (the message names one); nothing was downloaded.
    """
    for url in urls:
        if not _FILE_URL.fullmatch(url):
            raise ConfigurationError(
                f"{url} is not the URL of a file; expected s3://BUCKET/KEY, as `beray prefab run` "
                "shows it"
            )
    for index, url in enumerate(urls):
        if url in urls[:index]:
            raise ConfigurationError(f"{url} is given twice; pass it once")
    # The last directory of the URL is the key of the output file.
    planned = _plan_paths([(url.split("/")[-2], url) for url in urls], directory)
    return _download_planned(client, planned, start_bar, overwrite)


def _download_planned(
    client: GatewayClient, planned: Sequence[PlannedOutput], start_bar: StartBar, overwrite: bool
) -> list[Path]:
    paths = [path for _, _, path in planned]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise ConfigurationError(
                f"several files would be saved as {path}; download them one by one"
            )
    require_absent(*paths, overwrite=overwrite)
    for _, url, path in planned:
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(url, path, overwrite=overwrite, transfer=start_bar(path.name))
    return paths


def require_writable_directory(directory: Path) -> None:
    """Check, before a call is made, that files can be saved in ``directory``.

    Raises:
        ConfigurationError: ``directory`` or one of its parents is not a directory.
        OSError: The directory, or the parent in which it will be created, is not writable.
    """
    absolute = directory.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ConfigurationError(f"--out {directory}: {existing.name} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(existing))


def plan_outputs(result: PrefabResult, directory: Path) -> list[PlannedOutput]:
    """Return keys, URLs and local paths of the output files.

    If two files have the same name, each key gets a subdirectory.
    """
    urls: list[tuple[str, str]] = []
    for key, key_urls in result.get_files().items():
        for url in key_urls if isinstance(key_urls, list) else ():
            if not isinstance(url, str):
                raise InvalidResponseError(
                    f"the server's URL of the output file {key!r} is not a string", body=""
                )
            urls.append((key, url))
    return _plan_paths(urls, directory)


def _plan_paths(urls: Sequence[tuple[str, str]], directory: Path) -> list[PlannedOutput]:
    names = [url.rpartition("/")[2] for _, url in urls]
    has_duplicates = len({name.casefold() for name in names}) < len(names)
    return [
        (key, url, local_path(directory, f"{key}/{name}" if has_duplicates else name))
        for (key, url), name in zip(urls, names, strict=True)
    ]


def _json(value: Any) -> str:
    """Return a value as JSON in which control characters are escaped, so that it stays valid."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(map(_escaped, text)) if printable(text) != text else text


def _escaped(character: str) -> str:
    return character if printable(character) == character else json.dumps(character)[1:-1]
