"""Execution of a page."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.documentation import pages
from tests.documentation.pages import Block, Replacement, Setup
from tests.documentation.python_session import PythonSession
from tests.documentation.setups import PageSetup
from tests.documentation.shell import COLUMNS, Shell

PROGRAMS: Final = Path(__file__).with_name("programs")
_KEPT: Final = (
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "COVERAGE_PROCESS_START",
    "PYTEST_DEBUG_TEMPROOT",
)
# Parts of output that differ from run to run. The first pattern that matches determines the name.
_VARYING: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d+[smh]\b *"), "AGE "),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|seconds)\b"), "DURATION"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"\b(process|pid) \d+"), "process NUMBER"),
)
_CHANGE: Final = re.compile(r"-- (?:added|modified) (?P<path>.+) \((?P<size>[\d,]+ bytes?)\)")


class PageRun:
    """Run of one page. A context manager.

    Args:
        page: Path of the page.
        folder: Empty directory for the home, the current directory and the set-ups.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        is_document = page.is_relative_to(pages.ROOT)
        self._name = page.relative_to(pages.ROOT).as_posix() if is_document else page.name
        self._steps = pages.steps(page.read_text("utf-8"))
        self._folder = folder
        self._running = ExitStack()
        self._output = ""

    def __enter__(self) -> PageRun:
        folder = self._folder
        home, directory, state = folder / "home", folder / "directory", folder / "state"
        for each in (home, directory, state):
            each.mkdir(parents=True)
        self._setup = PageSetup(folder, self._running)
        programs = f"{PROGRAMS}:{Path(sys.executable).parent}"
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
            "HOME": str(home),
            "BERAY_HOME": str(home / "beray"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PROJECT": str(pages.ROOT),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": str(COLUMNS),
            # Nothing listens there, so that no block reaches another host.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "localhost,127.0.0.1",
        }
        self._setup.replacements += [("/home/you", str(home)), ("/srv/beray", f"{home}/srv")]
        self._shell = Shell(state, environ, directory)
        self._python = PythonSession()
        self._running.callback(self._stop_local_server)
        self._running.callback(self._shell.close)
        self._running.callback(self._python.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def execute(self) -> None:
        """Execute all steps, and fail at the first one whose result differs from the page."""
        for step in self._steps:
            place = f"{self._name}:{step.line}"
            if isinstance(step, Setup):
                self._start(step)
            elif isinstance(step, Replacement):
                new = _expand(step.new, self._shell.environ())
                self._setup.replacements.append((step.old, new))
            elif "skip" not in step.options:
                self._execute(step, place)

    def _stop_local_server(self) -> None:
        if Path(self._shell.environ()["BERAY_HOME"], "server").is_dir():
            self._shell.run("beray server stop || true")

    def _start(self, step: Setup) -> None:
        self._setup.environ.update(self._shell.environ())
        before = dict(self._setup.environ)
        self._setup.start(step.name, step.settings)
        for name, value in self._setup.environ.items():
            if before.get(name) != value:
                self._shell.export(name, value)

    def _execute(self, block: Block, place: str) -> None:
        options = block.options
        code = self._replaced(block.code)
        if "file" in options:
            path = self._shell.directory / self._replaced(options["file"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, "utf-8")
        elif "output" in options:
            problem = difference(code.splitlines(), self._output.splitlines())
            assert not problem, f"{place}: {problem}"
        elif block.language == "python":
            self._execute_python(code, block, place)
        elif block.language == "console":
            self._execute_console(code, block, place)
        elif block.language == "sh":
            self._execute_shell(code, block, place)
        else:
            raise AssertionError(f"{place}: {sorted(options)} do not apply to {block.language}")

    def _execute_python(self, code: str, block: Block, place: str) -> None:
        self._output, result = self._python.execute(
            "\n" * (block.line - 1) + code,
            file=self._name,
            environ=self._shell.environ(),
            directory=str(self._shell.directory),
        )
        expected = block.options.get("raises", "")
        assert (expected in result["raised"].split()) if expected else not result["raised"], (
            f"{place}: expected {expected or 'no exception'}\n{self._output}{result['trace']}"
        )

    def _execute_shell(self, code: str, block: Block, place: str) -> None:
        options = block.options
        if "background" in options:
            self._shell.start(code, self._replaced(options["background"]))
            return
        if "terminal" in options:
            status, lines = self._shell.run_on_terminal(code, options["terminal"])
            self._output = "\n".join(lines)
        else:
            producer = options.get("stdin")
            producer = self._replaced(producer) if producer is not None else None
            status, self._output = self._shell.run(code, producer=producer)
        _check_status(status, options, f"{place}: {code}", self._output)

    def _execute_console(self, code: str, block: Block, place: str) -> None:
        commands = list(console_commands(code))
        assert commands, f"{place}: no line begins with '$ '"
        status = 0
        for number, (command, expected) in enumerate(commands):
            # The page shows the status of a command by "echo $?" after it.
            status, lines = self._shell.run_on_terminal(command, previous=status)
            following = commands[number + 1 :]
            options = {} if following else block.options
            if not (following and "$?" in following[0][0]):
                _check_status(status, options, f"{place}: {command}", "\n".join(lines))
            problem = difference(expected, lines)
            assert not problem, f"{place}: {command}\n{problem}"

    def _replaced(self, text: str) -> str:
        for old, new in self._setup.replacements:
            text = text.replace(old, new)
        return text


def console_commands(code: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a console block, each with the lines of its output.

    A command begins with ``$ ``; its further lines begin with ``> ``.
    """
    commands: list[tuple[list[str], list[str]]] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            commands.append(([line[2:]], []))
        elif commands and not commands[-1][1] and line.startswith("> "):
            commands[-1][0].append(line[2:])
        elif commands:
            commands[-1][1].append(line)
    return [("\n".join(command), output) for command, output in commands]


def difference(expected: list[str], actual: list[str]) -> str:
    """Return a description of the difference; "" if the output is as expected.

    ``…`` stands for any characters within a line, and a line of ``…`` for any number of lines.
    Times, durations, ports and process ids are not compared. Of the events of changed files, only
    the last one of each file is compared, because the server finds changes by comparison, at any
    time while a command runs.
    """
    expected = [line.rstrip() for line in "\n".join(expected).rstrip().splitlines()]
    actual = [line.rstrip() for line in "\n".join(actual).rstrip().splitlines()]
    expected_changes, expected_lines = _separate_changes(expected)
    changes, lines = _separate_changes(actual)
    pattern = ""
    for line in expected_lines:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in _fixed(line).split("…")) + r"\n"
    fixed = "".join(f"{_fixed(line)}\n" for line in lines)
    if re.fullmatch(pattern, fixed) and expected_changes.items() <= changes.items():
        return ""
    return "expected:\n" + "\n".join(expected) + "\n\nactual:\n" + "\n".join(actual)


def _separate_changes(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the sizes of changed files by path, and the other lines."""
    found = [(line, _CHANGE.fullmatch(line)) for line in lines]
    changes = {match["path"]: match["size"] for _, match in found if match}
    return changes, [line for line, match in found if not match]


def _fixed(line: str) -> str:
    for pattern, name in _VARYING:
        line = pattern.sub(name, line)
    return line


def _check_status(status: int, options: dict[str, str], what: str, output: str) -> None:
    expected = int(options.get("exit", "0"))
    assert status == expected, f"{what}\nexit status {status}, expected {expected}:\n{output}"


def _expand(text: str, environ: dict[str, str]) -> str:
    return re.sub(r"\$([A-Z_]+)", lambda found: environ[found[1]], text)
