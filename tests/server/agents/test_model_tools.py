"""Built-in tools of a model: effects and errors."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgEventSendFile, MsgEventTextChunk
from beray.server.runners.base import Outcome
from beray.server.runners.model import toolset
from beray.transfers.wire_names import ANY_BYTES
from tests.server.agents.model_bench import Bench, other_tasks, processes, stop
from tests.support import PROMPT_SECONDS

SHELL = "tools:run_command"


async def call(
    tmp_path: Path,
    *calls: tuple[str, dict[str, Any]],
    files: dict[str, str] | None = None,
    **settings: Any,
) -> tuple[Bench, list[str]]:
    """Run a model that makes these calls one after another; return their results."""
    bench = await Bench.make(tmp_path, *([step] for step in calls), "done", **settings)
    for name, content in (files or {}).items():
        path = bench.work_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert await bench.run() == Outcome("COMPLETED")
    return bench, bench.answers()


async def test_the_instructions_contain_the_tools_and_the_directory(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, "done")
    await bench.run()
    assert bench.model is not None
    assert sorted(bench.model.tools) == sorted(toolset.NAMES)
    assert bench.sandbox.inside(bench.work_dir) in bench.model.instructions


async def test_read_file_returns_all_or_some_lines(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(1, 11))
    _, answers = await call(
        tmp_path,
        ("read_file", {"path": "a/b.txt"}),
        ("read_file", {"path": "a/b.txt", "first_line": 3, "line_count": 2}),
        ("read_file", {"path": "a/b.txt", "first_line": 10}),
        ("read_file", {"path": "empty"}),
        files={"a/b.txt": lines, "empty": ""},
    )
    assert answers == [lines, "line 3\nline 4\n", "line 10\n", ""]


async def test_read_file_reports_where_long_text_is_cut_off(tmp_path: Path) -> None:
    long = "".join(f"{number:07} {'x' * 91}\n" for number in range(1, 1001))
    _, answers = await call(
        tmp_path,
        ("read_file", {"path": "long"}),
        ("read_file", {"path": "long", "first_line": 601}),
        ("read_file", {"path": "wide"}),
        files={"long": long, "wide": "w" * 100_000 + "\nnext\n"},
    )
    assert answers[0].startswith("0000001 ")
    assert answers[0].endswith("[cut off before line 601: the file has 100,000 bytes in all]\n")
    assert answers[1].startswith("0000601 ")
    assert answers[2].startswith("w" * 4000)
    assert answers[2].endswith("… [100,001 bytes in this line]\nnext\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "missing"}, "does not exist"),
        ({"path": "folder"}, "is a folder"),
        ({"path": "/etc/passwd"}, "is absolute"),
        ({"path": "../1/a"}, "'..'"),
        ({"path": "link"}, "link"),
        ({"path": "out/passwd"}, "link"),
        ({"path": "pipe"}, "neither a file nor a folder"),
        ({"path": "binary"}, "not a text file"),
        ({"path": "a", "first_line": 5}, "has only 1 line"),
        ({"path": "a", "first_line": 0}, "at least 1"),
        ({"path": "a\0b"}, "NUL"),
        ({"file": "a"}, "Field required"),
    ],
)
async def test_read_file_rejects_paths_that_are_not_files_of_the_workspace(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    bench = await Bench.make(tmp_path, [("read_file", arguments)], "done")
    (bench.work_dir / "a").write_text("one line\n")
    (bench.work_dir / "folder").mkdir()
    (bench.work_dir / "link").symlink_to("/etc/passwd")
    (bench.work_dir / "out").symlink_to("/etc")
    (bench.work_dir / "binary").write_bytes(b"\x7fELF\0\0")
    os.mkfifo(bench.work_dir / "pipe")
    assert await bench.run() == Outcome("COMPLETED")
    [answer] = bench.answers()
    assert words in answer
    assert "root:" not in answer
    [result] = bench.sink.results("read_file")
    assert words in result["error"]


async def test_write_file_creates_directories_and_replaces_files_and_keeps_the_mode(
    tmp_path: Path,
) -> None:
    bench = await Bench.make(
        tmp_path,
        [("write_file", {"path": "new/deep/a.txt", "content": "grün\n"})],
        [("write_file", {"path": "run.sh", "content": "echo new"})],
        "done",
    )
    script = bench.work_dir / "run.sh"
    script.write_text("echo old")
    script.chmod(0o755)
    await bench.run()
    assert (bench.work_dir / "new/deep/a.txt").read_text() == "grün\n"
    assert script.read_text() == "echo new"
    assert script.stat().st_mode & 0o777 == 0o755
    assert bench.answers()[0] == "new/deep/a.txt: 6 bytes written"


@pytest.mark.parametrize("path", ["link", "out/new", "folder", "../new", "/tmp/new", "", "."])
async def test_write_file_does_not_change_files_outside(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    bench = await Bench.make(
        tmp_path,
        [("write_file", {"path": path, "content": "gone"})],
        [("edit_file", {"path": path, "old_text": "mine", "new_text": "gone"})],
        "done",
    )
    (bench.work_dir / "folder").mkdir()
    (bench.work_dir / "link").symlink_to(outside / "file")
    (bench.work_dir / "out").symlink_to(outside)
    assert await bench.run() == Outcome("COMPLETED")
    assert {file.name: file.read_text() for file in outside.iterdir()} == {"file": "mine"}
    assert "error" in bench.sink.results("write_file")[0]
    assert "error" in bench.sink.results("edit_file")[0]


async def test_edit_file_replaces_a_unique_occurrence(tmp_path: Path) -> None:
    bench, answers = await call(
        tmp_path,
        ("edit_file", {"path": "a", "old_text": "two\n", "new_text": "2\n"}),
        ("edit_file", {"path": "a", "old_text": "one", "new_text": "1"}),
        ("edit_file", {"path": "a", "old_text": "one", "new_text": "1", "replace_all": True}),
        ("edit_file", {"path": "a", "old_text": "three", "new_text": "3"}),
        ("edit_file", {"path": "a", "old_text": "", "new_text": "3"}),
        ("edit_file", {"path": "a", "old_text": "2", "new_text": "2"}),
        ("edit_file", {"path": "b", "old_text": "2", "new_text": "3"}),
        files={"a": "one\ntwo\none\n"},
    )
    assert answers[0] == "a: replaced 1 time"
    assert "2 times" in answers[1]
    assert answers[2] == "a: replaced 2 times"
    assert "not found in 'a'" in answers[3]
    assert "empty" in answers[4]
    assert "the same" in answers[5]
    assert "does not exist" in answers[6]
    assert (bench.work_dir / "a").read_text() == "1\n2\n1\n"


async def test_parallel_edits_of_one_file_are_not_lost(tmp_path: Path) -> None:
    edits = [
        ("edit_file", {"path": "a", "old_text": f"<{n}>", "new_text": f"[{n}]"}) for n in range(20)
    ]
    bench = await Bench.make(tmp_path, edits, "done")
    (bench.work_dir / "a").write_text("".join(f"<{n}>" for n in range(20)))
    await bench.run()
    assert (bench.work_dir / "a").read_text() == "".join(f"[{n}]" for n in range(20))
    assert (
        len(
            {
                event.model_dump()["call_id"]
                for event in bench.sink.events
                if event.type == "AGENT_EVENT_TOOL_RESULT"
            }
        )
        == 20
    )


async def test_list_files_lists_a_directory_or_its_tree(tmp_path: Path) -> None:
    _, answers = await call(
        tmp_path,
        ("list_files", {}),
        ("list_files", {"path": "src"}),
        ("list_files", {"recursive": True}),
        ("list_files", {"path": "src/empty"}),
        ("list_files", {"path": "missing"}),
        ("list_files", {"path": "many"}),
        ("list_files", {"path": "many", "after": "many/0999"}),
        ("list_files", {"recursive": True, "after": "many/0997"}),
        ("list_files", {"path": "many", "after": "src/c"}),
        files={"a.txt": "12345", "src/b.py": "", "src/empty/../c": ""}
        | {f"many/{number:04}": "" for number in range(1010)},
    )
    assert answers[0] == "a.txt (5 bytes)\nmany/\nsrc/"
    assert answers[1] == "src/b.py (0 bytes)\nsrc/c (0 bytes)\nsrc/empty/"
    listed = answers[2].splitlines()
    assert listed[:3] == ["a.txt (5 bytes)", "many/", "many/0000 (0 bytes)"]
    assert listed[1000:] == ["[more entries: continue with after='many/0997']"]
    assert answers[3] == "(the folder is empty)"
    assert "does not exist" in answers[4]
    assert answers[5].endswith("[more entries: continue with after='many/0999']")
    assert answers[6].splitlines() == [f"many/{number} (0 bytes)" for number in range(1000, 1010)]
    assert answers[7].splitlines()[0] == "many/0998 (0 bytes)"
    assert answers[7].splitlines()[-1] == "src/empty/"
    assert "'src/c' is not in 'many'" in answers[8]


async def test_search_files_finds_lines(tmp_path: Path) -> None:
    _, answers = await call(
        tmp_path,
        ("search_files", {"pattern": r"def \w+\("}),
        ("search_files", {"pattern": "a.b", "is_regex": False}),
        ("search_files", {"pattern": "HELLO", "ignore_case": True, "file_pattern": "*.txt"}),
        ("search_files", {"pattern": r"^v\d+(?:\.\d+)+$", "path": "src"}),
        ("search_files", {"pattern": "nowhere"}),
        ("search_files", {"pattern": "root", "path": "out"}),
        ("search_files", {"pattern": "(", "path": "."}),
        ("search_files", {"pattern": "-r", "path": "src/a.py"}),
        files={
            "src/a.py": "x = 1\ndef main():\n    pass  # -r\n",
            "src/b.txt": "hello a.b\naXb\nv1.2.3\nv1.\n",
            ".git/config": "def no(",
        },
    )
    assert answers[0] == "src/a.py:2:def main():"
    assert answers[1] == "src/b.txt:1:hello a.b"
    assert answers[2] == "src/b.txt:1:hello a.b"
    assert answers[3] == "src/b.txt:3:v1.2.3"
    assert answers[4] == "(nothing was found)"
    assert "does not exist" in answers[5]
    assert "the search failed" in answers[6]
    assert answers[7] == "src/a.py:3:    pass  # -r"


async def test_search_files_follows_no_links(tmp_path: Path) -> None:
    bench = await Bench.make(
        tmp_path,
        [
            ("search_files", {"pattern": "root"}),
            ("search_files", {"pattern": "root", "path": "out"}),
        ],
        "done",
    )
    (bench.work_dir / "out").symlink_to("/etc")
    (bench.work_dir / "passwd").symlink_to("/etc/passwd")
    await bench.run()
    first, second = bench.answers()
    assert first == "(nothing was found)"
    assert "link" in second


async def test_the_time_and_results_of_a_search_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "(a+)+$|(a|aa)+b"
    _, answers = await call(
        tmp_path,
        ("search_files", {"pattern": evil, "path": "evil"}),
        ("search_files", {"pattern": "x"}),
        files={"evil": "a" * 5000 + "!\n", "many": "x\n" * 5000},
    )
    assert answers[0] == "(nothing was found)"
    assert answers[1].endswith("[only the first 200 lines; there are more]")
    assert len(answers[1].splitlines()) == 201
    assert not processes()


async def test_run_command_returns_output_and_exit_status(tmp_path: Path) -> None:
    bench, answers = await call(
        tmp_path,
        ("run_command", {"command": "echo out; echo err >&2; exit 3"}),
        ("run_command", {"command": "true"}),
        ("run_command", {"command": "pwd; read line || echo no input"}),
        ("run_command", {"command": " "}),
    )
    assert answers[0] == "out\nerr\n[exit status 3]"
    assert answers[1] == "[exit status 0]"
    assert answers[2] == f"{bench.sandbox.inside(bench.work_dir)}\nno input\n[exit status 0]"
    assert "must not be empty" in answers[3]
    assert bench.sink.results("run_command")[:2] == [{"exit_code": 3}, {"exit_code": 0}]
    assert bench.sink.text(SHELL).startswith("out\nerr\n")
    assert not (bench.work_dir / ".beray").exists()


async def test_the_output_of_a_command_is_emitted_while_it_runs(tmp_path: Path) -> None:
    bench = await Bench.make(
        tmp_path,
        [("run_command", {"command": "echo first; until [ -e go ]; do sleep 0.02; done"})],
        "done",
    )
    run = bench.start()
    await bench.sink.until(lambda sink: sink.text(SHELL) == "first\n")
    (bench.work_dir / "go").touch()
    assert await run == Outcome("COMPLETED")


async def test_long_output_is_shortened_for_the_model_and_saved_in_a_file(tmp_path: Path) -> None:
    bench, answers = await call(
        tmp_path,
        ("run_command", {"command": "seq 100000"}),
        ("run_command", {"command": "seq 2000"}),
        shell_output_bytes=1000,
    )
    whole = "".join(f"{number}\n" for number in range(1, 100_001))
    assert answers[0].startswith("1\n2\n")
    assert answers[0].endswith("\n100000\n[exit status 0]")
    assert ".beray/output-1.txt" in answers[0]
    assert len(answers[0]) < 1200
    assert (bench.work_dir / ".beray/output-1.txt").read_text() == whole
    assert bench.sink.text(SHELL).startswith(whole)
    first, second = bench.sink.results("run_command")
    assert first == {
        "exit_code": 0, "output_file": ".beray/output-1.txt", "output_bytes": len(whole),
    }  # fmt: skip
    assert second["output_file"] == ".beray/output-2.txt"


async def test_a_failure_to_save_long_output_is_reported(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bench = await Bench.make(
        tmp_path, [("run_command", {"command": "seq 1000"})], "done", shell_output_bytes=100
    )
    (bench.work_dir / ".beray").symlink_to(outside)
    assert await bench.run() == Outcome("COMPLETED")
    assert "could not be saved" in bench.answers()[0]
    assert not list(outside.iterdir())


async def test_the_time_limit_ends_all_processes_of_a_command(tmp_path: Path) -> None:
    command = "echo begun; (setsid sh -c 'trap \"\" TERM; exec sleep 986' &) ; exec sleep 985"
    bench, answers = await call(
        tmp_path,
        ("run_command", {"command": command, "timeout_seconds": 0.5}),
        ("run_command", {"command": "echo next", "timeout_seconds": -1}),
    )
    assert answers[0] == "begun\n[terminated after 0.5 s: the time limit was reached]"
    assert bench.sink.results("run_command")[0] == {
        "exit_code": None, "timed_out_after_seconds": 0.5,
    }  # fmt: skip
    assert "greater than 0" in answers[1]
    assert not processes()


async def test_the_operators_time_limit_applies_to_commands(tmp_path: Path) -> None:
    _, answers = await call(tmp_path, ("run_command", {"command": "sleep 984"}), shell_seconds=0.3)
    assert "terminated after 0.3 s" in answers[0]


async def test_undecodable_output_is_replaced(tmp_path: Path) -> None:
    bench, answers = await call(tmp_path, ("run_command", {"command": r"printf '\377gr\303\274n'"}))
    assert answers[0] == "\ufffdgrün\n[exit status 0]"
    assert bench.sink.text(SHELL) == "\ufffdgrün"


async def test_a_stop_during_a_command_ends_its_processes(tmp_path: Path) -> None:
    command = "(setsid sh -c 'trap \"\" TERM; exec sleep 983' &) ; echo on; exec sleep 982"
    bench = await Bench.make(tmp_path, [("run_command", {"command": command})], "done")
    run = bench.start()
    await bench.sink.until(lambda sink: sink.text(SHELL) == "on\n")
    assert await stop(run) < PROMPT_SECONDS
    assert not processes()
    assert not other_tasks()
    assert bench.sink.records[0].requests == 1
    assert not list((tmp_path / "work/.incoming").iterdir())


async def test_send_file_accepts_only_files(tmp_path: Path) -> None:
    bench, answers = await call(
        tmp_path,
        ("send_file", {"path": "./out//a.txt"}),
        ("send_file", {"path": "missing"}),
        ("send_file", {"path": "out"}),
        ("send_file", {"path": "../secret"}),
        files={"out/a.txt": "x"},
    )
    assert [event.path for event in bench.sink.of(MsgEventSendFile)] == ["out/a.txt"]
    assert "does not exist" in answers[1]
    assert "folder" in answers[2]
    assert "'..'" in answers[3]


async def test_progress_is_emitted(tmp_path: Path) -> None:
    bench, _ = await call(tmp_path, ("report_progress", {"message": "half way"}))
    assert bench.sink.payloads("progress") == [{"kind": "progress", "message": "half way"}]


async def test_calling_an_unknown_tool_does_not_end_the_run(tmp_path: Path) -> None:
    bench, answers = await call(tmp_path, *[("open_browser", {})] * 5)
    assert len(answers) == 5
    assert "open_browser" in bench.sink.results("open_browser")[0]["error"]


async def test_an_exception_in_a_tool_is_reported_to_the_model_and_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object, message: str) -> str:
        raise RuntimeError(f"cannot say {message}")

    monkeypatch.setattr(toolset.UserTools, "report_progress", broken)
    bench, answers = await call(tmp_path, ("report_progress", {"message": "it"}))
    assert "RuntimeError: cannot say it" in answers[0]
    assert bench.sink.results("report_progress") == [{"error": "RuntimeError: cannot say it"}]


async def test_an_exception_of_the_sink_ends_the_run(tmp_path: Path) -> None:
    class TooMuch(Exception):
        pass

    bench = await Bench.make(tmp_path, [("run_command", {"command": "yes"})], "done")
    emit = bench.sink.emit

    async def bounded(event: Any, count: int = 1) -> None:
        if bench.sink.text(SHELL):
            raise TooMuch
        await emit(event, count)

    bench.sink.emit = bounded  # type: ignore[method-assign]
    with pytest.raises(TooMuch):
        await bench.run()
    assert not processes()


async def test_parallel_calls_run_at_the_same_time(tmp_path: Path) -> None:
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.02; done; echo met"
    bench = await Bench.make(
        tmp_path,
        [
            ("run_command", {"command": meet.format("a", "b"), "timeout_seconds": 20}),
            ("run_command", {"command": meet.format("b", "a"), "timeout_seconds": 20}),
        ],
        "done",
    )
    async with asyncio.timeout(20):
        await bench.run()
    assert bench.answers() == ["met\n[exit status 0]"] * 2


async def test_output_of_parallel_commands_has_call_ids_and_complete_lines(
    tmp_path: Path,
) -> None:
    wait = "until [ -e {} ]; do sleep 0.02; done"
    first = f"{wait.format('b0')}; printf 'a1 '; touch a1; {wait.format('b1')}; printf 'a2\\nend'"
    second = (
        f"touch b0; {wait.format('a1')}; printf 'b1 '; touch b1; {wait.format('a2')}; "
        f"printf 'b2\\nalone'; {wait.format('go')}"
    )
    bench = await Bench.make(
        tmp_path, [("run_command", {"command": command}) for command in (first, second)], "done"
    )
    run = bench.start()
    await bench.sink.until(lambda sink: "a2\n" in sink.text(SHELL))
    await bench.sink.until(lambda sink: len(sink.results("run_command")) == 1)
    (bench.work_dir / "a2").touch()
    # The output of the only running command is not buffered.
    await bench.sink.until(lambda sink: "alone" in sink.text(SHELL))
    (bench.work_dir / "go").touch()
    assert await run == Outcome("COMPLETED")
    texts: dict[str, list[str]] = {}
    for chunk in bench.sink.of(MsgEventTextChunk):
        if chunk.source == SHELL:
            texts.setdefault(chunk.model_dump()["call_id"], []).append(chunk.text)
    assert texts["call_1_0"] == ["a1 a2\n", "end"]
    assert "".join(texts["call_1_1"]) == "b1 b2\nalone"
    # "b1 " was buffered while the other command ran.
    assert texts["call_1_1"][0].startswith("b1 ")
    kinds = [event.model_dump().get("text") for event in bench.sink.events]
    assert kinds.index("a1 a2\n") < kinds.index(texts["call_1_1"][0])


@pytest.mark.parametrize("sandbox", ["auto", "none"])
async def test_terminated_background_processes_are_reported_to_the_model(
    tmp_path: Path, sandbox: str
) -> None:
    # Each process reports its start, so that none is still the shell that starts it.
    leave = (
        "mkfifo up; sh -c 'echo >up; sleep 978; :' & cat up >log; "
        "(setsid sh -c 'echo >up; exec sleep 977' &); cat up >>log; exit 3"
    )
    bench, answers = await call(
        tmp_path,
        ("run_command", {"command": leave}),
        ("run_command", {"command": "sleep 0 & wait"}),
        sandbox=sandbox,
    )
    assert "background processes were terminated when the command returned: " in answers[0]
    [first, second] = bench.sink.results("run_command")
    assert first["exit_code"] == 3
    assert len(first["terminated"]) >= 2
    assert second == {"exit_code": 0}
    assert answers[1] == "[exit status 0]"
    assert not processes()


@pytest.mark.parametrize("line", ["kill -9 $$", "pkill -f nothing-like-this; echo on", "exec no-1"])
async def test_the_first_process_of_a_sandbox_does_not_change_the_end_of_a_command(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    results = []
    for folder, sandbox in (("a", "auto"), ("b", "none")):
        bench, answers = await call(
            tmp_path / folder, ("run_command", {"command": line}), sandbox=sandbox
        )
        # The process that kills its own shell may still be exiting and be reported as running.
        [result] = bench.sink.results("run_command")
        results.append((answers[0].partition("\n")[0], result["exit_code"]))
    assert results[0] == results[1]


async def test_commands_use_the_network_only_if_the_task_requests_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo connected"
        for number, network in enumerate((False, True)):
            folder = tmp_path / str(number)
            folder.mkdir()
            allow = f"127.0.0.1:{server.getsockname()[1]}"
            step = [("run_command", {"command": command})]
            bench = await Bench.make(folder, step, "done", network_allow=allow)
            if bench.sandbox.networks.state.mode != "own":
                pytest.skip("without bubblewrap and slirp4netns the network is the host's")
            await bench.run(network=network)
            assert bench.model is not None
            assert ("connected" in bench.answers()[0]) is network
            assert ("no network" in bench.model.instructions) is not network


async def test_tools_work_without_bubblewrap(tmp_path: Path) -> None:
    leave = "(setsid sh -c 'trap \"\" TERM; exec sleep 979' &); pwd; cat a"
    bench, answers = await call(
        tmp_path,
        ("run_command", {"command": leave}),
        ("search_files", {"pattern": "he.lo"}),
        files={"a": "hello"},
        sandbox="none",
    )
    assert answers[0].startswith(f"{bench.work_dir}\nhello\n[exit status 0]\n[1 background")
    assert answers[1] == "a:1:hello"
    assert not processes()


async def test_search_files_finds_files_whose_names_have_line_breaks(tmp_path: Path) -> None:
    _, answers = await call(
        tmp_path,
        ("search_files", {"pattern": "word"}),
        ("search_files", {"pattern": "word", "path": "d\n1/a\n\nb.txt"}),
        files={"d\n1/a\n\nb.txt": "none\na word\n", "e.txt": "words\n"},
    )
    found = "d\n1/a\n\nb.txt:2:a word"
    assert sorted(answers[0].split("\n")) == sorted(f"{found}\ne.txt:1:words".split("\n"))
    assert answers[1] == found


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
async def test_files_whose_names_are_not_utf8_have_wire_names(tmp_path: Path) -> None:
    path = "d␦FF/caf␦E9.txt"
    bench, answers = await call(
        tmp_path,
        ("list_files", {"recursive": True}),
        ("list_files", {"path": "d␦FF"}),
        ("read_file", {"path": path}),
        ("search_files", {"pattern": "word", "path": "d␦FF"}),
        ("search_files", {"pattern": "word", "path": path}),
        ("edit_file", {"path": path, "old_text": "word", "new_text": "new"}),
        ("write_file", {"path": "made␦FE", "content": "x"}),
        ("send_file", {"path": path}),
        files={os.fsdecode(b"d\xff/caf\xe9.txt"): "a word\n"},
    )
    found = f"{path}:1:a word"
    assert answers[:5] == [
        f"d␦FF/\n{path} (7 bytes)",
        f"{path} (7 bytes)",
        "a word\n",
        found,
        found,
    ]
    assert (bench.work_dir / os.fsdecode(b"d\xff/caf\xe9.txt")).read_text() == "a new\n"
    assert (bench.work_dir / os.fsdecode(b"made\xfe")).read_text() == "x"
    assert [event.path for event in bench.sink.of(MsgEventSendFile)] == [path]
