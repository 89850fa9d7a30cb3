"""Tests of the documents: snippets, links, and the list of settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from beray import local_server
from beray.server.settings import Settings
from tests.documentation import pages
from tools.docs import generated, repository

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WITH_SNIPPETS = [path for path in DOCUMENTS if "```python\n" in path.read_text("utf-8")]
# Snippets of one document reuse names for values of other types, such as a second server.
SAME_NAMES = ("--local-partial-types", "--allow-redefinition-new")


def snippets(document: Path) -> dict[str, str]:
    """Return the Python snippets of a document by the name of their module.

    Blocks that are files have modules of their own. All others are one module, named after the
    document. Lines have the numbers that they have in the document.
    """
    page = re.sub(r"\W", "_", document.relative_to(ROOT).as_posix().lower())
    modules: dict[str, str] = {}
    for block in pages.steps(document.read_text("utf-8")):
        if isinstance(block, pages.Block) and block.language == "python":
            file = Path(block.options.get("file", f"{page}.py"))
            before = modules.get(file.name, "")
            blank_lines = block.line - 1 - before.count("\n")
            modules[file.name] = before + "\n" * blank_lines + block.code
    return modules


def prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text("utf-8"), flags=re.M | re.S)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub generates them."""
    headings = re.findall(r"^#+ +(.+)$", prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.skipif(os.name != "posix", reason="the embedded server runs on POSIX")
def test_the_first_snippet_runs_as_printed(own_home: Path, tmp_path: Path) -> None:
    """Check the snippets that need no account, running server, settings or arguments."""
    text = (ROOT / "README.md").read_text("utf-8")
    snippet = text.split("```python\n", 1)[1].split("```", 1)[0]
    try:
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True,
            encoding="utf-8", timeout=100, check=False,
        )  # fmt: skip
    finally:
        local_server.stop()
    assert done.returncode == 0, done.stderr
    assert '"status": "COMPLETED"' in done.stdout
    assert "b'hello\\n'" in done.stdout
    with zipfile.ZipFile(tmp_path / "everything.zip") as archive:
        assert sorted(archive.namelist()) == ["hello.txt", "notes/", "notes/today.txt"]


def test_there_are_documents_with_snippets() -> None:
    assert {"README.md", "README.zh-CN.md"} <= {document.name for document in WITH_SNIPPETS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lists_begin_after_an_empty_line(document: Path) -> None:
    """Git hosts show other lists as lists, the site shows them as text."""
    item = re.compile(r" *(?:[-*]|\d+\.) ")
    before = [""]
    joined = []
    for line in prose(document).splitlines():
        if item.match(line) and before[-1].strip() and not any(map(item.match, before)):
            joined.append(line)
        before = [*before, line] if line.strip() else [""]
    assert not joined


def test_the_navigation_contains_every_document() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    decisions = {name for name in documents if re.match(r"decisions/\d", name)}  # by the hook
    pages = (documents - decisions) | repository.pages().keys()
    assert not {name for name in pages if f"{name}\n" not in navigation}


def test_the_index_lists_every_document() -> None:
    for folder in (ROOT / "docs", ROOT / "docs" / "decisions"):
        index = (folder / "index.md").read_text("utf-8")
        paths = [path for path in folder.rglob("*.md") if path.name != "index.md"]
        names = {path.relative_to(folder).as_posix() for path in paths}
        if folder.name == "docs":
            names = {name for name in names if not name.startswith("decisions/")}
        assert not {name for name in names if f"({name})" not in index}


def test_all_settings_are_documented_and_exist() -> None:
    source = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    text = generated.fill_in(source)
    assert "| `BERAY_SLOTS` | int ≥ 1 | number of processors |" in text
    documented = set(re.findall(r"\bBERAY_[A-Z0-9_]*[A-Z0-9]\b(?!…|_)", text))
    # The data directory is an option of the command.
    settings = {f"BERAY_{name.upper()}" for name in Settings.model_fields} - {"BERAY_DATA_DIR"}
    client = {
        "BERAY_URL", "BERAY_TOKEN", "BERAY_PROFILE", "BERAY_HOME", "BERAY_IDLE_SECONDS",
        "BERAY_GATEWAY_URL",
    }  # fmt: skip
    assert documented == settings | client


@pytest.mark.types
@pytest.mark.timeout(600)
def test_snippets_pass_mypy_strict(tmp_path: Path) -> None:
    problems = ""
    for number, document in enumerate(WITH_SNIPPETS):
        folder = tmp_path / str(number)
        folder.mkdir()
        modules = snippets(document)
        for name, code in modules.items():
            (folder / name).write_text(code, "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file", "", *SAME_NAMES,
             "--cache-dir", str(ROOT / ".mypy_cache" / "documentation"), *modules],
            cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False,
            env={**os.environ, "MYPYPATH": str(ROOT)},
        )  # fmt: skip
        if done.returncode:
            problems += done.stdout + done.stderr
    assert not problems, problems


@pytest.mark.types
def test_the_type_of_an_event_determines_its_fields(tmp_path: Path) -> None:
    module = tmp_path / "narrowing.py"
    module.write_text(NARROWING, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir",
         str(ROOT / ".mypy_cache" / "documentation"), str(module)],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.types
def test_code_for_the_published_packages_passes_mypy_strict(tmp_path: Path) -> None:
    module = tmp_path / "published.py"
    module.write_text(PUBLISHED, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", *SAME_NAMES, "--cache-dir",
         str(ROOT / ".mypy_cache" / "documentation"), str(module)],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


PUBLISHED = """
from pathlib import Path
from typing import assert_type

from beray import APIError, AuthenticationError, BeRayClient, NotFoundError
from beray.agent import SyncAgentApi
from beray.agent.agent_api import AgentApi
from beray.agent.server import (
    AgentEventUnion,
    EServerMessage,
    MsgEventEnd,
    MsgEventTextChunk,
)
from beray.gateway import GatewayClient, MissingSecretError
from beray.gateway.models import PrefabCall, StreamEventType

client = BeRayClient.from_env("work", timeout=(1.0, 2.0), verify=False)
client = BeRayClient.local(max_retries=1)
client.login_with_form("a", "b")
client.login_with_form(email="a", password="b")
client.login_with_form(username="a", password="b")
APIError(404, "x"), NotFoundError(404, "x"), AuthenticationError("x"), APIError("m", status_code=5)

gateway = GatewayClient("tok", "http://x", 60)
gateway = GatewayClient("http://x", "k", "j", 60)
gateway = GatewayClient(internal_token=None, timeout=120)
gateway = GatewayClient(base_url="u", api_key="k", jwt_token="j", timeout=60, idle=3)
gateway = GatewayClient("http://x", internal_token="t")
gateway = GatewayClient.from_api_key("sk", base_url="x", max_retries=2)
stored = gateway.upload_file("/tmp/a", "text/plain")
assert_type(stored["s3_url"], str)
assert_type(stored["size"], int)
url: str = gateway.upload_file(file_path=Path("x"))
gateway.upload_temp_file("x", 3600, "s")
gateway.upload_temp_file("x", "a/b", 2, "s")
gateway.upload_temp_file("x", "a/b", "s")
gateway.upload_temp_file("x", "a/b", ttl_hours=1, session_id="s")
gateway.upload_temp_file(file_path="x", content_type="a/b", ttl_hours=1, session_id="s")
gateway.upload_temp_file("x", ttl=5)
assert_type(gateway.download_file("s3://a/b"), str)
assert_type(gateway.download_file("s3://a/b", "/tmp/x"), Path)
listing = gateway.list_files("p/")
listing = gateway.list_files(limit=3, continuation_token=listing["next_token"])
for file in listing["files"]:
    print(file["s3_url"], file["size"], file["last_modified"])
for each in listing:
    assert_type(each, str)
assert_type(listing[0], str)
assert_type(listing[:2], list[str])
assert_type(gateway.cleanup_temp_files(), int)
assert_type(gateway.internal_token, str | None)
gateway.timeout = 5
call = PrefabCall(prefab_id="a", version="1", function_name="f", parameters={"a": 1})
call.version = "2"
print(gateway.prefab("a", "1").chat(messages=[]).is_success(), MissingSecretError("p", "N", "i"))
for event in gateway.run("a", "1", "f", {}, stream=True):
    if event.type == StreamEventType.CONTENT or event.type == "content":
        print(event.data)

pool: dict[str, AgentApi] = {}


def forget(api: AgentApi) -> None:
    pool.pop(api.id)


async def main() -> None:
    api = AgentApi("a", "ws://x/", None, forget, 3)
    api = AgentApi("a", "ws://x/ws", on_disconnect=lambda api: pool.pop(api.id, None))
    api = AgentApi("a", "ws://x/", on_disconnect=lambda: None)
    api = AgentApi(agent_id="a", base_url="ws://x/", callback=print, chat_id=0)
    api = AgentApi(agent_id="a", url="ws://x/")
    async for chunk in await api.send_message("x"):
        if chunk.type == EServerMessage.AGENT_EVENT_TEXT_CHUNK:
            assert_type(chunk, MsgEventTextChunk)
        elif isinstance(chunk, MsgEventEnd):
            print(chunk.tokens_used, chunk.type.value)
    async for event in api.send_message("x", ["a"]):
        same: AgentEventUnion = event
    with SyncAgentApi("a", "ws://x", on_disconnect=lambda api: print(api.id)) as sync:
        print([event.type for event in sync.send_message("x")])
"""

NARROWING = """
from typing import assert_type

from beray import BeRayClient
from beray.schema import Task

client = BeRayClient()
for update in client.stream_task_updates("1"):
    if update["type"] == "AGENT_EVENT_TEXT_CHUNK":
        assert_type(update["text"], str)
    elif update["type"] == "ERROR":
        assert_type(update["details"], str)
    elif update["type"] in ("AGENT_EVENT_END",):
        print(update["seq"])
    elif update["type"] == "TASK_STATUS":
        print(update["status"], update.get("reason"))
    elif str(update["type"]) == "A_NEWER_TYPE":
        print(dict(update)["a_new_field"])
    update["text"]  # type: ignore[typeddict-item]
for event in client.get_task(1)["events"] + client.list_events(1):
    match event["type"]:
        case "AGENT_EVENT_SEND_FILE":
            assert_type(event["path"], str)
for change in client.stream_all_updates():
    if change["type"] == "TASKS":
        assert_type(change["tasks"], list[Task])
    elif change["type"] == "TASK_STATUS" and "task" in change:
        assert_type(change["task"], Task)
    elif change["type"] == "TASK_PROGRESS":
        assert_type(change["last_seq"], int)
assert_type(client.run("g", tags=["a"], tools=None, timeout=5.0)["tags"], list[str])
assert_type(client.wait("a-1", 5), Task)
"""
