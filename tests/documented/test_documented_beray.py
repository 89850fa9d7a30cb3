"""Every snippet of the documentation of ``beray`` 0.1.x, rewritten, against a BeRay server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.client import BeRayClient
from beray.exceptions import (
    APIError,
    AuthenticationError,
    BeRayException,
    ConflictError,
    NotFoundError,
    UnprocessableEntityError,
)
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD

EMAIL = "existing_user@example.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("beray")) as server:
        server.sign_up(EMAIL)
        yield server


@pytest.fixture
def client(server: RunningServer) -> BeRayClient:
    client = BeRayClient(server.url)
    client.login(EMAIL, PASSWORD)
    return client


def test_quick_start(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    client = BeRayClient(base_url=server.url)
    try:
        info = client.login(EMAIL, PASSWORD)
        print(f"signed in: {info['user']}")
        created = client.create_task(goal="!echo hello world")
        print(f"task {created['id']}: {created['status']}")
        print(f"{len(client.list_tasks())} tasks")
        for update in client.stream_task_updates(task_id=created["id"]):
            print(f"update: {update}")
    except APIError as error:
        pytest.fail(f"{error.status_code} {error.error_detail}")
    out = capsys.readouterr().out
    assert EMAIL in out and "hello world" in out and "'status': 'COMPLETED'" in out


def test_quick_start_with_a_wrong_password(server: RunningServer) -> None:
    with pytest.raises(APIError) as caught:
        BeRayClient(base_url=server.url).login(EMAIL, "wrong password")
    assert isinstance(caught.value, AuthenticationError)
    assert caught.value.status_code == 401 and caught.value.error_detail


def test_initialisation(server: RunningServer, client: BeRayClient) -> None:
    token = access_token(client)
    assert BeRayClient(server.url, token).get_current_user()["email"] == EMAIL
    with_token = BeRayClient(base_url=server.url, token=token)
    assert with_token.get_current_user() == client.get_current_user()
    assert with_token.base_url == server.url
    assert with_token.api_base_url == f"{server.url}/api/v1"


def test_registration(server: RunningServer) -> None:
    client = BeRayClient(server.url)
    address = "new_user@example.com"
    assert client.request_verification_code(address)["message"]
    response = client.register(
        email=address,
        verification_code=server.mailed_code(address),
        password="a_very_secure_password",
    )
    assert response["user"]["email"] == address
    assert client.get_current_user()["email"] == address


def test_sign_in_and_out(server: RunningServer) -> None:
    client = BeRayClient(server.url)
    response = client.login(EMAIL, PASSWORD)
    assert response["user"]["email"] == EMAIL
    user = client.get_current_user()
    assert f"{user['id']}, {user['email']}" == f"{response['user']['id']}, {EMAIL}"
    assert client.logout()["message"]
    assert client.access_token is None
    ways: list[Callable[[], Any]] = [
        lambda: client.login_with_form(EMAIL, PASSWORD),
        lambda: client.login_with_form(email=EMAIL, password=PASSWORD),
        lambda: client.login_with_form(username=EMAIL, password=PASSWORD),
    ]
    for sign_in in ways:
        assert sign_in()["access_token"]
        assert client.get_current_user()["email"] == EMAIL
    client.set_token(response["access_token"])
    with pytest.raises(AuthenticationError):
        client.get_current_user()


def test_tasks(client: BeRayClient) -> None:
    task = client.create_task(goal="!echo a poem about the universe")
    for listed in client.list_tasks():
        assert f"{listed['id']} {listed['goal'][:20]} {listed['status']}"
    details = client.get_task(task_id=task["id"])
    assert details["goal"] == task["goal"] and isinstance(details["events"], list)
    updates = list(client.stream_task_updates(task_id=task["id"]))
    printed = [json.dumps(update, indent=2, ensure_ascii=False) for update in updates]
    assert any("a poem about the universe" in text for text in printed)
    assert client.delete_task(task_id=task["id"])["message"]
    with pytest.raises(NotFoundError):
        client.get_task(task_id=task["id"])


def test_a_running_task_is_stopped(client: BeRayClient) -> None:
    task = client.create_task(goal="!echo ready; while true; do sleep 1; done")
    for update in client.stream_task_updates(task_id=task["id"]):
        if update["type"] == "AGENT_EVENT_TEXT_CHUNK":
            assert client.stop_task(task_id=task["id"])["message"]
    assert client.get_task(task["id"])["status"] == "STOPPED"


def test_files(client: BeRayClient, tmp_path: Path) -> None:
    goal = "!mkdir -p output results images; echo summary > results/summary.txt; touch output/a"
    task_id = client.create_task(goal=goal)["id"]
    list(client.stream_task_updates(task_id))
    tree = client.list_files_tree(task_id=task_id)
    assert {item["name"] for item in tree} >= {"output", "results"}
    below = client.list_files_tree(task_id=task_id, path="output")
    assert [item["name"] for item in below] == ["a"]

    client.upload_file(
        task_id=task_id, path="source_code/main.py", content="print('Hello, BeRay!')"
    )
    picture = tmp_path / "my_image.png"
    picture.write_bytes(b"\x89PNG\x00\xff")
    with picture.open("rb") as file:
        client.upload_file(task_id=task_id, path="images/my_image.png", content=file.read())

    response = client.get_file_content(task_id=task_id, path="results/summary.txt")
    assert isinstance(response, requests.Response) and response.ok
    (tmp_path / "local_summary.txt").write_bytes(response.content)
    assert (tmp_path / "local_summary.txt").read_text() == "summary\n"

    response = client.download_files_as_zip(
        task_id=task_id, paths=["results/summary.txt", "images/"]
    )
    assert response.ok
    (tmp_path / "some.zip").write_bytes(response.content)
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert names == {"results/summary.txt", "images/my_image.png"}
        assert archive.read("images/my_image.png") == picture.read_bytes()
    assert client.download_files_as_zip(task_id=task_id).ok


def test_exceptions(server: RunningServer, client: BeRayClient) -> None:
    try:
        client.request_verification_code(EMAIL)
    except ConflictError as error:
        assert error.error_detail and error.status_code == 409
    except APIError as error:
        pytest.fail(f"{error.status_code} {error.error_detail}")
    else:
        pytest.fail("a registered address was accepted")
    with pytest.raises(UnprocessableEntityError) as invalid:
        client.request_verification_code("no address")
    assert isinstance(invalid.value, APIError) and isinstance(invalid.value, BeRayException)
    with pytest.raises(NotFoundError) as missing:
        client.get_task(10**9)
    assert missing.value.status_code == 404
