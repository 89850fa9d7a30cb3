"""Reference of the command, from the typer application."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import typer

from beray.cli.app import app
from tools.docs.markdown import anchor, code, in_one_line, table

_COMMON: Final = 10
"""Number of commands with the same option from which it is described only once."""
_LINE_WITH_EXTRAS: Final = re.compile(r"(?P<text>.*?)\s*(?:\[(?P<extras>[^\[\]]*)\])?", re.S)


class _Parameter(NamedTuple):
    name: str
    text: str
    extras: str
    is_option: bool


class _Command(NamedTuple):
    path: str
    usage: str
    text: str
    parameters: list[_Parameter]
    is_group: bool


def generate() -> str:
    """Return a table of the commands, and a section for each with its arguments and options."""
    commands = list(_commands())
    options = Counter(
        parameter for command in commands for parameter in command.parameters if parameter.is_option
    )
    common = [option for option, number in options.items() if number >= _COMMON]
    rows = [
        (f"[`{command.path}`](#{anchor(command.path)})", command.text.split("\n\n")[0])
        for command in commands
        if not command.is_group
    ]
    parts = [
        table(["command", ""], ((name, in_one_line(_escaped(text))) for name, text in rows)),
        "### Options of several commands\n",
        _parameter_table(common),
        *(_section(command, common) for command in commands),
    ]
    return "\n".join(parts)


def _commands() -> Iterator[_Command]:
    root = typer.main.get_command(app)
    yield from _walk(root, typer.Context(root, info_name="beray"))


def _walk(command: Any, context: Any) -> Iterator[_Command]:
    parameters = [
        _parameter(*record, is_option=parameter.param_type_name == "option")
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None
    ]
    subcommands = getattr(command, "commands", {})
    usage = command.get_usage(context).removeprefix("Usage: ")
    is_group = bool(subcommands) and context.parent is not None
    yield _Command(context.command_path, usage, command.help or "", parameters, is_group)
    for name, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from _walk(subcommand, typer.Context(subcommand, info_name=name, parent=context))


def _parameter(name: str, text: str, *, is_option: bool) -> _Parameter:
    match = _LINE_WITH_EXTRAS.fullmatch(text)
    assert match is not None
    return _Parameter(name, match["text"], match["extras"] or "", is_option)


def _section(command: _Command, common: list[_Parameter]) -> str:
    own = [parameter for parameter in command.parameters if parameter not in common]
    shared = [parameter for parameter in command.parameters if parameter in common]
    names = ", ".join(code(parameter.name.split(" ")[0]) for parameter in shared)
    link = "(#options-of-several-commands)"
    also = f"[Options of several commands]{link}: {names}.\n" if names else ""
    return "\n".join(
        [
            f"### {command.path}\n",
            f"{_escaped(command.text)}\n",
            f"```text\n{in_one_line(command.usage)}\n```\n",
            _parameter_table(own),
            also,
        ]
    )


def _parameter_table(parameters: list[_Parameter]) -> str:
    rows = []
    for parameter in parameters:
        extras = parameter.extras.split("; ") if parameter.extras else []
        defaults = [item.removeprefix("default: ") for item in extras if item.startswith("default")]
        ranges = [item for item in extras if ("x" in item and "<=" in item) or ">=" in item]
        value = "required" if "required" in extras else ", ".join(map(code, defaults))
        text = _escaped(parameter.text) + "".join(f" Range: {code(item)}." for item in ranges)
        name = re.sub(" <.*>", "", parameter.name)
        rows.append((code(name), in_one_line(text), value))
    return table(["argument or option", "meaning", "default"], rows)


def _escaped(text: str) -> str:
    """Return a help text as Markdown: options and names become code, nothing else is markup."""

    def replace(match: re.Match[str]) -> str:
        kept, name, special = match.groups()
        return kept or (code(name) if name else f"\\{special}")

    return re.sub(
        r"(`[^`]*`)|((?<![\w-])--[a-z]+(?:-[a-z]+)*|\b\w+_\w+\b)|([*_<\[\]])", replace, text
    )
