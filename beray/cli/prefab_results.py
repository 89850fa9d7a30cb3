"""What a call gives: shown as it comes, and its files taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beray.cli import output
from beray.cli.boundary import DONE, FAILED
from beray.cli.progress import Bars
from beray.exceptions import InvalidResponseError
from beray.files import local_path
from beray.gateway import GatewayClient, PrefabResult, PrefabStream, StreamEvent, StreamEventType
from beray.partial import refuse_existing
from beray.text import printable


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
    flow.finish()
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
    for key, places in (result.get_files() if saved is None else saved).items():
        for place in places:
            output.note(f"{key}: {place}")
    return DONE


def _explain(error: Any) -> None:
    told = error if isinstance(error, dict) else {"message": str(error)}
    for line in str(told.get("traceback") or "").splitlines():
        output.note(f"| {line}")
    code = f"{told['code']}: " if told.get("code") else ""
    output.problem(f"{code}{told.get('message') or 'the call failed'}")


def take(
    client: GatewayClient, result: PrefabResult, folder: Path, begin: Bars, *, overwrite: bool
) -> dict[str, list[str]]:
    """Download the files of a result into ``folder``; where each is, by key.

    Raises:
        FileExistsError: some are there, which it names; nothing was downloaded.
        InvalidResponseError: one has a name that cannot be had here.
    """
    planned = plan(result, folder)
    refuse_existing(*(place for _, _, place in planned), overwrite=overwrite)
    saved: dict[str, list[str]] = {}
    for key, url, place in planned:
        place.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(url, place, overwrite=overwrite, transfer=begin(place.name))
        saved.setdefault(key, []).append(str(place))
    return saved


def plan(result: PrefabResult, folder: Path) -> list[tuple[str, str, Path]]:
    """Keys, URLs and places: in folders by key where two files have one name."""
    urls: list[tuple[str, str]] = []
    for key, several in result.get_files().items():
        for url in several if isinstance(several, list) else ():
            if not isinstance(url, str):
                raise InvalidResponseError("the server names files by what is no URL", body="")
            urls.append((key, url))
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
