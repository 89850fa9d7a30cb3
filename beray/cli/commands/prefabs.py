"""Commands for prefabs: new, check, add, list, spec, run, get, secret."""

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
from beray.cli.prefab.context import PrefabId, PrefabName, gateway_client, split_version
from beray.cli.progress import progress_bars
from beray.exceptions import ConfigurationError
from beray.installation import how_to_install

if TYPE_CHECKING:
    from beray.server.prefabs.registry import InstalledPrefab

_group = typer.Typer(
    help="Prefabs: functions with input and output files, run by the server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
PrefabDirectory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory with the prefab.toml.")
]


@_group.command()
def new(prefab_id: PrefabId) -> int:
    """Create a directory with a complete example prefab and its test.

    The directory has the prefab's id as its name.
    """
    from beray.cli.prefab import template

    _require_id(prefab_id)
    if template.is_reserved(prefab_id):
        raise ConfigurationError(
            f"{prefab_id!r} is a reserved file name on Windows; choose another id"
        )
    directory = Path(prefab_id)
    try:
        directory.mkdir()
    except FileExistsError:
        output.error(f"{directory} already exists; nothing was changed; choose another id")
        return FAILED
    for name, text in template.files(prefab_id).items():
        (directory / name).write_text(text, encoding="utf-8")
        output.line(str(directory / name))
    output.note(
        f"next: pytest {directory}; beray prefab check {directory}; beray prefab add {directory}"
    )
    return DONE


def _require_id(prefab_id: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    allowed = set(letters + "0123456789-")
    if not (prefab_id[:1] in set(letters) and set(prefab_id) <= allowed and len(prefab_id) <= 64):
        raise ConfigurationError(
            f"{prefab_id!r} is not a valid prefab id; use lowercase letters, digits and -, "
            "starting with a letter, at most 64 characters"
        )


@_group.command()
def check(directory: PrefabDirectory, as_json: AsJson = False) -> int:
    """Check a prefab and list its problems. The exit status is 0 if it has no problems.

    No server is needed. The prefab's module is imported in this process, with your permissions
    and without a sandbox: read code of other people before you check it.
    """
    prefab = _check_prefab(directory, as_json)
    if prefab is None:
        return FAILED
    if not as_json:
        functions = ", ".join(prefab.manifest.functions)
        output.line(f"{prefab.id} {prefab.version.text} is valid: {functions}")
    return DONE


def _check_prefab(directory: Path, as_json: bool) -> InstalledPrefab | None:
    """Return the prefab in ``directory``. If it has problems, report them and return None."""
    if find_spec("jsonschema") is None or find_spec("fastapi") is None:
        raise ConfigurationError(
            f"checking a prefab needs the packages of the server; {how_to_install('server')}"
        )
    from beray.server.prefabs import prefab_check
    from beray.server.prefabs.manifest import ManifestError

    try:
        prefab = prefab_check.check_prefab(directory)
        if prefab.manifest.prefab.module in sys.stdlib_module_names:
            output.note(
                f"{prefab.module_file} hides a module of Python's standard library; rename it"
            )
        return prefab
    except ManifestError as error:
        for problem in error.problems:
            if as_json:
                output.json_line({"loc": list(problem.loc), "msg": problem.msg})
            else:
                output.line(str(problem))
        count = len(error.problems)
        output.error(f"{count} problem{'' if count == 1 else 's'} in {directory}")
        return None


@_group.command()
def add(
    ctx: typer.Context,
    directory: PrefabDirectory,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Check a prefab and add it to the server. Existing versions cannot be changed."""
    if _check_prefab(directory, as_json) is None:
        return FAILED
    from beray.server.prefabs import archives

    archive = archives.pack(directory)
    with gateway_client(ctx, url, profile) as client:
        spec = client.add_prefab(archive)
    if as_json:
        output.json_line(spec)
    else:
        output.note(f"added {spec.get('id')} {spec.get('version')} to the server")
    return DONE


@_group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """List the prefabs of the server.

    The columns are id, newest version, status, functions and name.
    """
    with gateway_client(ctx, url, profile) as client:
        prefabs = client.list_prefabs()
    if as_json:
        for prefab in prefabs:
            fields = {name: value for name, value in vars(prefab).items() if name != "extra"}
            output.json_line(fields)
        return
    rows = [
        [prefab.prefab_id, prefab.version, prefab.status, ", ".join(prefab.functions), prefab.name]
        for prefab in prefabs
    ]
    if not output.is_terminal(sys.stdout):
        for row in rows:
            output.row(row)
    elif rows:
        output.table(rows)


@_group.command()
def spec(
    ctx: typer.Context, name: PrefabName, url: Url = None, profile: ProfileName = None
) -> None:
    """Show the spec of a prefab as JSON.

    It describes the functions with their parameters and files.
    """
    prefab_id, version = split_version(name)
    with gateway_client(ctx, url, profile) as client:
        result = client.get_prefab_spec(prefab_id, version)
    if output.is_terminal(sys.stdout):
        output.line(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        output.json_line(result)


@_group.command()
def run(
    ctx: typer.Context,
    name: PrefabName,
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="Name of the function.", callback=encodable)
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            help="Parameter, interpreted by its schema: string, number, true, false or JSON. "
            "@PATH: text of a file; @@TEXT: string that starts with @. Repeatable.",
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="KEY=LOCAL",
            help="Input file, or its s3:// URL. Repeatable, also with the same key.",
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show values as they arrive.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Download the output files to DIR."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Call a function of a prefab.

    The result is written to stdout as JSON, after the list of values of a streaming function.
    The URLs of the output files are shown; with --out, the files are downloaded. With --json,
    all of this is one object. The exit status is 1 if the call fails.
    """
    from beray.cli.prefab import inputs, results
    from beray.gateway import RejectedInput

    prefab_id, version = split_version(name)
    if out is not None:
        results.require_writable_directory(out)
    with gateway_client(ctx, url, profile) as client, progress_bars() as start_bar:
        called = inputs.function_spec(client.get_prefab_spec(prefab_id, version), function)
        parameters = inputs.parse_parameters(param or (), called)
        files = inputs.parse_files(file or (), called)
        urls = inputs.upload_files(client, files, start_bar)
        call = (prefab_id, called.version, function, parameters, urls or None)
        try:
            if stream:
                result = results.show_stream(client.run(*call, stream=True), as_json)
            else:
                result = client.run(*call)
        except RejectedInput as error:
            messages = inputs.rejection_messages(error, files)
            if not messages:
                raise
            for message in messages:
                output.error(message)
            return FAILED
        saved = None
        try:
            if out is not None and result.is_success():
                saved = results.save_outputs(
                    client,
                    result,
                    out,
                    start_bar,
                    overwrite=force,
                    inputs=[location for _, location in files],
                )
        except BaseException:
            # The call may have cost money, so its result is shown even if saving files fails.
            results.show_result(result, as_json, None)
            raise
    return results.show_result(result, as_json, saved)


@_group.command()
def get(
    ctx: typer.Context,
    file: Annotated[list[str], typer.Argument(metavar="URL", help="s3:// URLs.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Target directory."),
    ] = Path(),
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download output files by their URLs.

    `beray prefab run` shows the URLs.
    """
    from beray.cli.prefab import results

    results.require_writable_directory(out)
    with gateway_client(ctx, url, profile) as client, progress_bars() as start_bar:
        saved = results.save_urls(client, file, out, start_bar, overwrite=force)
    for s3_url, path in zip(file, saved, strict=True):
        if as_json:
            output.json_line({"url": s3_url, "saved": output.path_text(path)})
        else:
            output.line(str(path))


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    prefab_secrets.register(_group)
    app.add_typer(_group, name="prefab")
