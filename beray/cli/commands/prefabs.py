"""Prefabs: new, check, add, list, spec, run, and get, for the files that they make."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beray.cli import output
from beray.cli.commands import prefab_secrets
from beray.cli.errors import DONE, FAILED
from beray.cli.options import AsJson, Force, ProfileName, Url, encodable
from beray.cli.prefab.context import Name, PrefabId, gateway, split
from beray.cli.progress import bars
from beray.exceptions import ConfigurationError
from beray.installation import how_to_install

if TYPE_CHECKING:
    from beray.server.prefabs.registry import InstalledPrefab

_group = typer.Typer(
    help="Prefabs: functions with files, run by the server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with its prefab.toml.")]


@_group.command()
def new(prefab_id: PrefabId) -> int:
    """Write a prefab that works, with a test, into a folder of its name."""
    from beray.cli.prefab import template

    _require_id(prefab_id)
    if template.is_reserved(prefab_id):
        raise ConfigurationError(f"{prefab_id!r} is a name that Windows reserves")
    folder = Path(prefab_id)
    try:
        folder.mkdir()
    except FileExistsError:
        output.problem(f"{folder} is there already; nothing was changed")
        return FAILED
    for name, text in template.files(prefab_id).items():
        (folder / name).write_text(text, encoding="utf-8")
        output.line(str(folder / name))
    output.note(f"next: pytest {folder}; beray prefab check {folder}; beray prefab add {folder}")
    return DONE


def _require_id(prefab_id: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    allowed = set(letters + "0123456789-")
    if not (prefab_id[:1] in set(letters) and set(prefab_id) <= allowed and len(prefab_id) <= 64):
        raise ConfigurationError(
            f"{prefab_id!r} is no id: small letters, digits and -, a letter first, 64 at most"
        )


@_group.command()
def check(folder: Folder, as_json: AsJson = False) -> int:
    """Say what is wrong with a prefab; nothing is, with exit status 0.

    No server is needed. Its module is imported here, with your rights and no sandbox: look at
    what somebody else has written before you check it.
    """
    found = _checked(folder, as_json)
    if found is None:
        return FAILED
    if not as_json:
        functions = ", ".join(found.manifest.functions)
        output.line(f"{found.id} {found.version.text} is sound: {functions}")
    return DONE


def _checked(folder: Path, as_json: bool) -> InstalledPrefab | None:
    """The prefab in ``folder``; ``None`` where something is wrong, which is told."""
    if find_spec("jsonschema") is None or find_spec("fastapi") is None:
        raise ConfigurationError(f"this needs the server's packages; {how_to_install('server')}")
    from beray.server.prefabs import prefab_check
    from beray.server.prefabs.manifest import ManifestError

    try:
        found = prefab_check.check_prefab(folder)
        if found.manifest.prefab.module in sys.stdlib_module_names:
            output.note(f"{found.module_file} hides a module of Python's own from what it imports")
        return found
    except ManifestError as error:
        for problem in error.problems:
            if as_json:
                output.json_line({"loc": list(problem.loc), "msg": problem.msg})
            else:
                output.line(str(problem))
        count = len(error.problems)
        output.problem(f"{count} problem{'s' if count > 1 else ''} in {folder}")
        return None


@_group.command()
def add(
    ctx: typer.Context,
    folder: Folder,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Check a prefab and add it to the server. A version that is there never changes."""
    if _checked(folder, as_json) is None:
        return FAILED
    from beray.server.prefabs import archives

    archive = archives.pack(folder)
    with gateway(ctx, url, profile) as client:
        spec = client.add_prefab(archive)
    if as_json:
        output.json_line(spec)
    else:
        output.note(f"{spec.get('id')} {spec.get('version')} is on the server")
    return DONE


@_group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """List the prefabs of the server: id, newest version, status, functions and name."""
    with gateway(ctx, url, profile) as client:
        found = client.list_prefabs()
    if as_json:
        for one in found:
            told = {name: value for name, value in vars(one).items() if name != "extra"}
            output.json_line(told)
        return
    rows = [
        [one.prefab_id, one.version, one.status, ", ".join(one.functions), one.name]
        for one in found
    ]
    if not output.is_terminal(sys.stdout):
        for row in rows:
            output.row(row)
    elif rows:
        output.table(rows)


@_group.command()
def spec(ctx: typer.Context, name: Name, url: Url = None, profile: ProfileName = None) -> None:
    """Write the spec of a prefab, as JSON."""
    prefab_id, version = split(name)
    with gateway(ctx, url, profile) as client:
        found = client.get_prefab_spec(prefab_id, version)
    if output.is_terminal(sys.stdout):
        output.line(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        output.json_line(found)


@_group.command()
def run(
    ctx: typer.Context,
    name: Name,
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="The function.", callback=encodable)
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            help="A parameter; numbers, true, false and JSON as its schema wants, @PATH: "
            "the text of a file, @@TEXT: a text that begins with @. Can be repeated.",
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="KEY=LOCAL",
            help="An input file, or an s3:// URL. Can be repeated, also for a key.",
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show what comes as it comes.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where the output files go."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Run a function of a prefab.

    What it returns goes to stdout, as JSON; before it, of a function that streams, the list of
    its pieces. Its output files are named, or saved with --out. With --json, all is one object.
    Exit status 1 where the call failed.
    """
    from beray.cli.prefab import errors, inputs, results
    from beray.gateway import RejectedInput

    prefab_id, version = split(name)
    if out is not None:
        results.require_folder(out)
    with gateway(ctx, url, profile) as client, bars() as begin:
        found = inputs.function_of(client.get_prefab_spec(prefab_id, version), function)
        parameters = inputs.parameters(param or (), found)
        places = inputs.local_files(file or (), found)
        urls = inputs.uploaded(client, places, begin)
        asked = (prefab_id, found.version, function, parameters, urls or None)
        try:
            if stream:
                result = results.watched(client.run(*asked, stream=True), as_json)
            else:
                result = client.run(*asked)
        except RejectedInput as error:
            refusals = errors.told(error, places)
            if not refusals:
                raise
            for refusal in refusals:
                output.problem(refusal)
            return FAILED
        saved = None
        try:
            if out is not None and result.is_success():
                given = [place for _, place in places]
                saved = results.take(client, result, out, begin, overwrite=force, inputs=given)
        except BaseException:
            # What was run, and maybe paid for, is told whatever becomes of its files.
            results.show(result, as_json, None)
            raise
    return results.show(result, as_json, saved)


@_group.command()
def get(
    ctx: typer.Context,
    file: Annotated[list[str], typer.Argument(metavar="URL...", help="s3:// URLs.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the files go; otherwise here.")
    ] = Path(),
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Save files that prefabs have made, by the URLs that a run names."""
    from beray.cli.prefab import results

    results.require_folder(out)
    with gateway(ctx, url, profile) as client, bars() as begin:
        saved = results.fetch(client, file, out, begin, overwrite=force)
    for s3_url, place in zip(file, saved, strict=True):
        if as_json:
            output.json_line({"url": s3_url, "saved": output.path_text(place)})
        else:
            output.line(str(place))


def register(app: typer.Typer) -> None:
    prefab_secrets.register(_group)
    app.add_typer(_group, name="prefab")
