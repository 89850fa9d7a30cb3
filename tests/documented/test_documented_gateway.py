"""Every snippet of the documents of ``agent-builder-gateway-sdk``, rewritten, against a server.

The README (versions 0.5.0 and later) and the guide for agents disagree; both spellings run.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header
from fastapi.testclient import TestClient

from beray.gateway import AgentContextRequiredError, GatewayClient, PrefabCall
from beray.gateway.exceptions import (
    AuthenticationError,
    GatewayError,
    MissingSecretError,
    PrefabNotFoundError,
    QuotaExceededError,
    ServiceUnavailableError,
    ValidationError,
)
from beray.gateway.models import CallStatus, StreamEventType
from beray.testing import RunningServer, access_token
from tests.shared_servers import ServerPool

Write = Callable[[str, str], str]


@pytest.fixture
def client(gateway_server: RunningServer, internal_token: str) -> GatewayClient:
    return GatewayClient(internal_token=internal_token, base_url=gateway_server.url)


# README


def test_initialisation(gateway_server: RunningServer, api_key: str, internal_token: str) -> None:
    url = gateway_server.url
    with gateway_server.sign_up() as account:
        jwt_token = access_token(account)
    for client in (
        GatewayClient(internal_token=internal_token, base_url=url),
        GatewayClient(internal_token, url),
        GatewayClient.from_api_key(api_key, base_url=url),
        GatewayClient(api_key=api_key, base_url=url),
        GatewayClient(url, api_key),
        GatewayClient(jwt_token=jwt_token, timeout=120, base_url=url),
        GatewayClient(url, None, jwt_token, 120),
        GatewayClient(base_url=url, api_key=api_key, jwt_token=jwt_token, timeout=60),
    ):
        assert any(prefab.prefab_id == "llm-client" for prefab in client.list_prefabs())
        assert client.base_url == url


def test_whitelist_mode(server_pool: ServerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_pool.server(BERAY_GATEWAY_ALLOW="127.0.0.1")
    monkeypatch.setenv("BERAY_GATEWAY_URL", server.url)
    assert isinstance(GatewayClient().list_prefabs(), list)
    assert isinstance(GatewayClient(base_url=server.url).list_prefabs(), list)
    assert isinstance(GatewayClient(server.url).list_prefabs(), list)


def test_a_call(client: GatewayClient) -> None:
    result = client.run(
        prefab_id="llm-client",
        version="1.0.0",
        function_name="chat",
        parameters={"messages": [{"role": "user", "content": "Hello"}]},
    )
    if result.is_success():
        output = result.get_result()
    else:
        pytest.fail(f"Error: {result.error}")
    assert output is not None and output["output"]["message"] == "default: Hello"
    assert result.get("output") == output["output"] and result.get("other", 1) == 1


def test_a_chained_call(client: GatewayClient) -> None:
    llm = client.prefab("llm-client", "1.0.0")
    messages = [{"role": "user", "content": "Hello"}]
    for result in (
        llm.call("chat", messages=messages, model="gpt-4"),
        llm.chat(messages=messages, model="gpt-4"),
    ):
        assert result.get_business_message() == "gpt-4: Hello"


def test_a_streamed_response(client: GatewayClient, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"words": ["one", "two"]}
    for event in client.run("llm-client", "1.0.0", "talk", parameters, stream=True):
        if event.type == "content":
            print(event.data, end="", flush=True)
        elif event.type == "done":
            print("\ndone")
    assert capsys.readouterr().out == "onetwo\ndone\n"
    kinds = []
    for event in client.run("llm-client", "1.0.0", "talk", parameters, stream=True):
        kinds.append(event.type)
        if event.type == StreamEventType.CONTENT:
            break
    assert kinds == [StreamEventType.START, StreamEventType.CONTENT]


def test_a_batch(client: GatewayClient) -> None:
    calls = [
        PrefabCall(
            prefab_id="translator",
            version="1.0.0",
            function_name="translate",
            parameters={"text": text, "target": "zh"},
        )
        for text in ("Hello", "World")
    ]
    result = client.run_batch(calls)
    assert result.all_success() and result.get_failed() == []
    texts = [call.get_function_result()["translated_text"] for call in result.results]
    assert texts == ["你好", "世界"]
    assert all(call.get_result() for call in result.results)


def test_files_of_a_call(client: GatewayClient, write: Write) -> None:
    video = client.upload_input_file(write("input.mp4", "video"), content_type="video/mp4")
    result = client.run(
        prefab_id="video-processor",
        version="1.0.0",
        function_name="extract",
        parameters={"format": "mp3"},
        files={"video": [video]},
    )
    files = result.get_files()
    assert len(files["output"]) == 1 and files["output"][0].endswith("input.mp3")
    with pytest.raises(ValidationError):
        client.run("video-processor", "1.0.0", "extract", {}, files={"video": ["/tmp/input.mp4"]})


def test_permanent_files(
    client: GatewayClient, write: Write, internal_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = client.upload_file(write("result.pdf", "pdf"))
    assert result["s3_url"].startswith("s3://") and "/agent-outputs/" in result["s3_url"]
    assert result["filename"] == "result.pdf" and result["size"] == 3
    monkeypatch.setenv("X_INTERNAL_TOKEN", internal_token)
    monkeypatch.setenv("BERAY_GATEWAY_URL", client.base_url)
    assert list(GatewayClient().list_files()) == [result["s3_url"]]


def test_temporary_files(client: GatewayClient, write: Write) -> None:
    session_id = str(uuid.uuid4())
    result = client.upload_temp_file(
        write("intermediate.jpg", "jpg"), ttl=3600, session_id=session_id
    )
    assert f"/{session_id}/" in result["s3_url"] and "/agent-workspace/" in result["s3_url"]
    listed = client.list_temp_files(session_id=session_id)
    assert [file["s3_url"] for file in listed["files"]] == [result["s3_url"]]
    assert client.cleanup_temp_files(session_id=session_id) == 1
    assert client.list_temp_files(session_id=session_id)["files"] == []


def test_downloads(client: GatewayClient, write: Write, tmp_path: Path) -> None:
    s3_url = client.upload_file(write("result.pdf", "pdf"))["s3_url"]
    target = str(tmp_path / "downloads" / "downloaded_result.pdf")
    client.download_file(s3_url, target)
    assert Path(target).read_text() == "pdf"
    presigned_url = client.get_presigned_url(s3_url, expires_in=3600)
    assert httpx.get(presigned_url).text == "pdf"


def test_pages_of_a_listing(client: GatewayClient, write: Write) -> None:
    urls = sorted(client.upload_file(write(f"{n}.txt", "text"))["s3_url"] for n in range(3))
    found: list[str] = []
    result = client.list_files(limit=2)
    while True:
        for file in result["files"]:
            assert (file["size"], bool(file["last_modified"])) == (4, True)
            found.append(file["s3_url"])
        if "next_token" not in result:
            break
        result = client.list_files(limit=2, continuation_token=result["next_token"])
    assert found == urls


def test_the_whole_workflow(client: GatewayClient, write: Write, tmp_path: Path) -> None:
    session_id = str(uuid.uuid4())
    source = client.upload_input_file(write("source.mp4", "video"))
    local = str(tmp_path / "input.mp4")
    try:
        client.download_file(source, local)
        audio = client.upload_temp_file(write("audio.wav", "audio"), session_id=session_id)
        frame = client.upload_temp_file(write("frame.jpg", "frame"), session_id=session_id)
        output = client.upload_file(local)
        answer = {"output_url": output["s3_url"]}
    finally:
        assert client.cleanup_temp_files(session_id=session_id) == 2
    assert httpx.get(client.get_presigned_url(answer["output_url"])).text == "video"
    for url in (audio["s3_url"], frame["s3_url"]):
        with pytest.raises(GatewayError):
            client.get_presigned_url(url)


def test_integration_of_third_parties(gateway_server: RunningServer, write: Write) -> None:
    with gateway_server.sign_up() as account:
        key = account.create_api_key("third party")["key"]
    client = GatewayClient.from_api_key(key, base_url=gateway_server.url)
    video_url = client.upload_input_file(write("video.mp4", "a"), content_type="video/mp4")
    result = client.run(
        prefab_id="video-processor",
        version="1.0.0",
        function_name="extract",
        parameters={"format": "mp3"},
        files={"video": [video_url]},
    )
    assert result.is_success() and result.get_files()
    for operation in (
        lambda: client.upload_file(write("a.txt", "a")),
        lambda: client.upload_temp_file(write("b.txt", "b")),
        client.list_files,
        client.cleanup_temp_files,
    ):
        with pytest.raises(AgentContextRequiredError) as caught:
            operation()
        assert str(caught.value)


def test_prefabs_and_their_specification(client: GatewayClient) -> None:
    assert {prefab.prefab_id for prefab in client.list_prefabs()} >= {"llm-client", "translator"}
    assert client.list_prefabs(status="deployed")
    assert "chat" in str(client.get_prefab_spec("llm-client"))
    assert "chat" in str(client.get_prefab_spec("llm-client", version="1.0.0"))


def test_errors(gateway_server: RunningServer, client: GatewayClient) -> None:
    url = gateway_server.url
    with pytest.raises(AuthenticationError):
        GatewayClient(internal_token="wrong", base_url=url).run("llm-client", "1.0.0", "chat", {})
    with pytest.raises(AuthenticationError):
        GatewayClient.from_api_key("sk-wrong", base_url=url)
    with pytest.raises(PrefabNotFoundError) as missing:
        client.run("nothing", "1.0.0", "chat", {})
    assert missing.value.prefab_id == "nothing"
    with pytest.raises(ValidationError):
        client.run("llm-client", "1.0.0", "chat", {})
    with pytest.raises(MissingSecretError) as secret:
        client.run("needs-secret", "1.0.0", "secret", {})
    assert secret.value.secret_name == "API_KEY" and secret.value.prefab_id == "needs-secret"
    assert "example.com" in (secret.value.instructions or "")
    with pytest.raises(ServiceUnavailableError):
        GatewayClient("t", "http://127.0.0.1:9", max_retries=0).run("p", "1", "f", {})
    for error in (missing.value, secret.value, QuotaExceededError("m", 3, 4, "daily")):
        assert isinstance(error, GatewayError) and error.message
    quota = QuotaExceededError("m", limit=3, used=4, quota_type="daily")
    assert f"{quota.used}/{quota.limit}" == "4/3"


def test_debugging(client: GatewayClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.list_prefabs()
    assert caplog.records and (client.internal_token or "?") not in caplog.text


# Guide for agents


def test_an_agent_with_an_injected_token(
    gateway_server: RunningServer, internal_token: str
) -> None:
    app = FastAPI()

    def get_gateway_client(
        x_internal_token: Annotated[str, Header(alias="X-Internal-Token")],
    ) -> GatewayClient:
        return GatewayClient(
            internal_token=x_internal_token, base_url=gateway_server.url, timeout=120
        )

    @app.post("/translate")
    def translate(
        request_data: dict[str, Any],
        gateway_client: GatewayClient = Depends(get_gateway_client),  # noqa: B008
    ) -> dict[str, Any]:
        result = gateway_client.run(
            prefab_id="translator",
            version="1.0.0",
            function_name="translate",
            parameters={"text": request_data["parameters"]["text"], "target": "zh"},
        )
        if not result.is_success():
            return {"success": False, "message": str(result.error)}
        returned = result.get_function_result()
        if not returned or not returned.get("success"):
            return {"success": False, "message": returned.get("error", "unknown")}
        return {"success": True, "message": returned.get("translated_text")}

    service = TestClient(app)
    headers = {"X-Internal-Token": internal_token}

    def ask(text: str) -> Any:
        body = {"parameters": {"text": text}}
        return service.post("/translate", json=body, headers=headers).json()

    assert ask("Hello") == {"success": True, "message": "你好"}
    assert ask("Moon") == {"success": False, "message": "unknown word"}


def test_the_structure_of_a_result(client: GatewayClient, write: Write) -> None:
    document = client.upload_input_file(write("document.pdf", "pdf"))
    result = client.run(
        prefab_id="video-processor",
        version="1.0.0",
        function_name="extract",
        parameters={},
        files={"video": [document]},
    )
    assert result.status == CallStatus.SUCCESS and result.job_id and result.error is None
    assert result.output is not None and result.output["status"] == "SUCCESS"
    assert result.output["output"] == result.get_function_result()
    assert result.get_function_result().get("message") == "1 files"
    assert result.output["files"] == result.get_files()
    assert result.get_file_urls() == [result.get_files()["output"][0]]
    failed = client.run_batch(
        [
            PrefabCall("translator", "1.0.0", "translate", {"text": "Moon", "target": "zh"}),
            PrefabCall("nothing", "1.0.0", "f", {}),
        ]
    )
    assert [call.is_success() for call in failed.results] == [True, False]
    assert failed.get_failed()[0].error and not failed.all_success()
    assert failed.results[0].get_business_success() is False
    assert failed.results[0].get_business_error() == "unknown word"
    assert failed.results[0].get_business_error_code() == "UNKNOWN"


def test_files_of_agents(client: GatewayClient, write: Write, tmp_path: Path) -> None:
    kept = client.upload_file(file_path=write("result.txt", "text"), content_type="text/plain")
    second = client.upload_file(write("result.txt", "text"), "text/plain")
    assert kept.startswith("s3://") and kept != second
    temporary = client.upload_temp_file(
        file_path=write("temp_data.json", "{}"),
        content_type="application/json",
        ttl_hours=1,
        session_id="task-123",
    )
    other = client.upload_temp_file(write("temp.json", "{}"), "application/json", ttl_hours=1)
    download_url = client.download_file(s3_url=kept)
    response = httpx.get(download_url)
    (tmp_path / "downloaded.txt").write_bytes(response.content)
    assert response.text == "text"

    files = client.list_files()
    assert kept in files and second in files and len(files) == 2 and files[0] in (kept, second)
    folder = kept.split("/")[-2]
    assert [url for url in client.list_files(prefix=folder)] == [kept]  # noqa: C416
    assert list(client.list_files(folder)) == [kept]
    assert sorted(client.list_temp_files()) == sorted([temporary, other])
    assert list(client.list_temp_files(session_id="task-123")) == [temporary]
    assert client.cleanup_temp_files(session_id="task-123") == 1
    assert client.cleanup_temp_files() == 1
    assert list(client.list_temp_files()) == [] and len(client.list_files()) == 2


def test_the_whole_processing_of_a_file(client: GatewayClient, write: Write) -> None:
    source = client.upload_input_file(write("input.txt", "some text"))
    content = httpx.get(client.download_file(source)).text
    temporary = client.upload_temp_file(
        file_path=write("temp_result.json", content),
        content_type="application/json",
        ttl_hours=1,
        session_id="default",
    )
    result = client.run(
        prefab_id="video-processor",
        version="1.0.0",
        function_name="extract",
        parameters={},
        files={"video": [temporary]},
    )
    assert result.is_success()
    final = client.upload_file(
        file_path=write("final.txt", result.get_function_result().get("message", "")),
        content_type="text/plain",
    )
    client.cleanup_temp_files(session_id="default")
    assert httpx.get(client.download_file(final)).text == "1 files"
    (made,) = result.get_file_urls()
    assert httpx.get(client.download_file(made)).text == "SOME TEXT"
