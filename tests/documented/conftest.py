"""Fixtures with a server that has the prefabs of the published documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beray import BeRayClient
from beray.gateway import GatewayClient
from beray.server.prefabs import archives
from beray.testing import RunningServer, access_token
from tests.server.gateway.prefab_folders import write_prefab

MODULE = """
from beray.prefab import Call, Progress

def chat(call: Call, *, messages: list, model: str = "default") -> dict:
    return {"success": True, "message": f"{model}: {messages[-1]['content']}"}

def talk(call: Call, *, words: list):
    for number, word in enumerate(words, 1):
        yield word
        yield Progress(number / len(words), "talking")
    return {"success": True}

def translate(call: Call, *, text: str, target: str) -> dict:
    known = {("Hello", "zh"): "\\u4f60\\u597d", ("World", "zh"): "\\u4e16\\u754c"}
    if (text, target) not in known:
        return {"success": False, "error": "unknown word", "error_code": "UNKNOWN"}
    return {"success": True, "message": "done", "translated_text": known[text, target]}

def extract(call: Call, *, format: str = "txt") -> dict:
    paths = [path for paths in call.files.values() for path in paths]
    for path in paths:
        call.output("output", f"{path.stem}.{format}").write_text(path.read_text().upper())
    return {"success": True, "message": f"{len(paths)} files", "data": {"count": len(paths)}}

def secret(call: Call) -> dict:
    return {}
"""
FUNCTIONS = {
    "llm-client": """
        [functions.chat.parameters]
        required = ["messages"]
        properties.messages.type = "array"
        properties.model = { type = "string", default = "default" }
        [functions.talk]
        streaming = true
        parameters.required = ["words"]
        parameters.properties.words.type = "array"
    """,
    "translator": """
        [functions.translate]
        parameters.required = ["text", "target"]
        parameters.properties.text.type = "string"
        parameters.properties.target.type = "string"
    """,
    "video-processor": """
        [functions.extract]
        parameters.properties.format = { type = "string", default = "txt" }
        [functions.extract.files.inputs.video]
        many = true
        [functions.extract.files.outputs.output]
        many = true
    """,
    "needs-secret": """
        [functions.secret]
        [[functions.secret.secrets]]
        name = "API_KEY"
        instructions = "Get one at example.com"
    """,
}


@pytest.fixture(scope="session")
def gateway_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server with all prefabs of ``FUNCTIONS``."""
    folder = tmp_path_factory.mktemp("documented")
    with RunningServer.start(folder / "data", BERAY_PREFAB_AUTHORS="*") as server:
        with (
            server.sign_up() as author,
            GatewayClient(server.url, jwt_token=access_token(author)) as client,
        ):
            for name, functions in FUNCTIONS.items():
                path = write_prefab(folder / name, MODULE, functions, prefab_id=name)
                client.add_prefab(archives.pack(path))
        yield server


@pytest.fixture
def api_key(gateway_server: RunningServer) -> str:
    """API key of an agent of a new account."""
    with gateway_server.sign_up() as account:
        return account.create_api_key("documented", agent_id="agent456")["key"]


@pytest.fixture
def internal_token(gateway_server: RunningServer, api_key: str) -> str:
    """Internal token of an agent, as a gateway passes it in ``X-Internal-Token``."""
    with GatewayClient.from_api_key(api_key, gateway_server.url) as client:
        assert client.internal_token is not None
        return client.internal_token


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a local file and return its path as a string, as in the documents."""

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def token(beray_client: BeRayClient) -> str:
    """Access token of a new account."""
    return access_token(beray_client)
