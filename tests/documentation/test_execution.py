"""The executor of the blocks in the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation import pages
from tests.documentation.execution import PageRun, console_commands, difference
from tests.documentation.pages import Block, PageError, Replacement, Setup


def run(tmp_path: Path, text: str) -> None:
    """Execute a page with this content."""
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    with PageRun(page, tmp_path / "run") as started:
        started.execute()


def test_steps_have_the_lines_of_the_page() -> None:
    text = (
        "a\n<!-- test: model, server -->\n\n```python\nx = 1\n```\n\n- b\n\n  ```sh\n  ls\n  ```\n"
    )
    assert pages.steps(text) == [
        Setup(2, "model", {}), Setup(2, "server", {}),
        Block(5, "python", "x = 1\n"), Block(11, "sh", "ls\n"),
    ]  # fmt: skip


def test_directives_belong_to_the_next_block() -> None:
    text = (
        "<!-- test: server BERAY_SLOTS=2 -->\n<!-- test: replace a b => $C -->\n"
        "<!-- test: sh\necho x > y\n-->\n<!-- test: exit 3 -->\n\n```sh\nfalse\n```\n"
        "```json\n{}\n```\n<!-- test: file a.json -->\n```json\n{}\n```\n"
        "<!-- test: skip needs a key -->\n```sh\nls\n```\n"
    )
    assert pages.steps(text) == [
        Setup(1, "server", {"BERAY_SLOTS": "2"}), Replacement(2, "a b", "$C"),
        Block(4, "sh", "echo x > y\n"), Block(9, "sh", "false\n", {"exit": "3"}),
        Block(16, "json", "{}\n", {"file": "a.json"}),
        Block(20, "sh", "ls\n", {"skip": "needs a key"}),
    ]  # fmt: skip
    assert pages.skipped(text) == [(20, "needs a key")]


def test_comments_within_a_block_are_part_of_it() -> None:
    assert pages.steps("```sh\n<!-- test: server -->\n```\n") == [
        Block(2, "sh", "<!-- test: server -->\n")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- test: sever -->\n",
        "<!-- test: exit 1 -->\n",
        "<!-- test: exit 1 -->\n<!-- test: server -->\n```sh\n```\n",
        "<!-- test: replace a b -->\n",
    ],
)
def test_a_directive_without_effect_is_an_error(text: str) -> None:
    with pytest.raises(PageError):
        pages.steps(text)


def test_console_blocks_have_commands_with_output() -> None:
    assert console_commands("$ cat <<E\n> a\n> E\na\n> b\n$ ls\n") == [
        ("cat <<E\na\nE", ["a", "> b"]), ("ls", [])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (["a … c", "…", "d"], ["a b c", "", "x", "d"]),
        (["a", "…"], ["a"]),
        (["at 2025-01-01 08:00 in 3 s"], ["at 2031-10-02 09:11:12 in 0.2 s"]),
        (["x  ", ""], ["x", "", ""]),
        (
            ["a", "-- added f (3 bytes)", "b"],
            ["-- added f (0 bytes)", "a", "b", "-- modified f (3 bytes)"],
        ),
    ],
)
def test_variable_parts_are_not_compared(expected: list[str], actual: list[str]) -> None:
    assert difference(expected, actual) == ""


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (["-- added f (3 bytes)"], ["-- added f (4 bytes)"]),
        (["a"], ["a", "b"]),
        (["a.c"], ["abc"]),
        (["a …"], ["b"]),
        (["3 files"], ["4 files"]),
    ],
)
def test_everything_else_is_compared(expected: list[str], actual: list[str]) -> None:
    assert "actual:" in difference(expected, actual)


def test_blocks_share_variables_the_directory_and_names(tmp_path: Path) -> None:
    run(
        tmp_path,
        "```sh\nexport A=1\nmkdir d && cd d\n```\n"
        "```python\nimport os\nx = os.environ['A'] + os.path.basename(os.getcwd())\n```\n"
        "```python\nprint(x)\n```\n"
        "<!-- test: output -->\n```text\n1d\n```\n"
        "```console\n$ echo $A; test -t 1 && echo terminal\n1\nterminal\n$ pwd\n…/d\n```\n"
        "```console\n$ (exit 3)\n$ echo $?\n3\n```\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```sh\nfalse\ntrue\n```\n", "exit status 1, expected 0"),
        ("<!-- test: exit 2 -->\n```sh\ntrue\n```\n", "exit status 0, expected 2"),
        ("```console\n$ echo a\nb\n```\n", "actual:\na"),
        ("```console\n$ false\n```\n", "exit status 1, expected 0"),
        ("```python\nx = 1\n1 / 0\n```\n", r'"page.md", line 3'),
        ("<!-- test: raises OSError -->\n```python\n1 / 0\n```\n", "expected OSError"),
        ("```sh\necho a\n```\n<!-- test: output -->\n```text\nb\n```\n", "actual:\na"),
        ("```sh\npip install requests\n```\n", "unknown requirement 'requests'"),
        ("```sh\nuv sync --group none\n```\n", "'none'. is not in pyproject.toml"),
    ],
)
def test_a_block_that_does_not_work_fails_the_page(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        run(tmp_path, text)


def test_a_skipped_block_is_not_executed(tmp_path: Path) -> None:
    run(tmp_path, "<!-- test: skip needs root -->\n```sh\nfalse\n```\n")


def test_a_mode_request_is_not_the_end_of_the_output(tmp_path: Path) -> None:
    run(
        tmp_path,
        "<!-- test: sh printf '%s\\n' \"printf '\\\\033[?2026\\$p'; sleep 0.2; echo shown; read -r line\" > script -->\n"
        '<!-- test: terminal shown "\\r" -->\n```sh\nbash script\n```\n',
    )
