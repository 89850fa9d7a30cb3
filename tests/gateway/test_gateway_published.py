"""Tests of compatibility with the published SDK: names, parameters, positions and results."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.gateway import (
    FileListing,
    GatewayClient,
    GatewayError,
    InvalidAnswer,
    InvalidInput,
    LocalFileError,
    LocalFileExists,
    LocalFileNotFound,
    ObjectNotFoundError,
    UploadResult,
    models,
)
from beray.testing import FaultServer, RunningServer, ScriptedResponse

S3 = "s3://bucket/agent-outputs/1/scout/report.txt"


@pytest.fixture
def server(probe_server: RunningServer) -> RunningServer:
    return probe_server


@pytest.fixture
def client(server: RunningServer) -> Iterator[GatewayClient]:
    """Client of an agent of a new account."""
    with server.sign_up() as account:
        key = account.create_api_key("published", agent_id="scout")["key"]
        with GatewayClient.from_api_key(key, server.url) as client:
            yield client


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "report.txt"
    path.write_text("one two three\n")
    return path


def json_response(body: Any, status: int = 200) -> ScriptedResponse:
    return ScriptedResponse(json.dumps(body).encode(), status)


def test_the_published_names() -> None:
    assert set(models.__all__) == {
        "BatchResult", "CallStatus", "PrefabCall", "PrefabInfo", "PrefabResult", "StreamEvent",
        "StreamEventType",
    }  # fmt: skip


# Uploads


def test_an_upload_is_a_string_with_the_keys_of_the_response(
    client: GatewayClient, local: Path
) -> None:
    for result in (
        client.upload_file(str(local)),
        client.upload_file(file_path=local, content_type="text/x"),
        client.upload_file(path=local),
        client.upload_temp_file(file_path=local),
        client.upload_input_file(file_path=local, content_type="text/plain"),
        client.upload_input_file(local, "text/plain"),
    ):
        assert isinstance(result, str) and result.startswith("s3://")
        assert result["s3_url"] == result == f"{result}"
        assert result["filename"].endswith("report.txt")
        assert (result["size"], result["success"]) == (14, True)
        assert "size" in result and "s3://" in result and "other" not in result
        assert (result.get("size"), result.get("other", 5)) == (14, 5)
        assert dict(result) | {} == dict(result.items()) and set(result.keys()) >= {"s3_url"}
        assert result[:5] == "s3://" and result[0] == "s"
        assert json.loads(json.dumps([result])) == [str(result)]
        for again in (pickle.loads(pickle.dumps(result)), copy.copy(result)):
            assert (again, again["size"]) == (result, 14)
        with pytest.raises(KeyError):
            result["other"]
        assert client.get_presigned_url(result).startswith("http://")
    report = client.run("probe", "latest", "count", {"unit": "words"}, {"document": [result]})
    assert report.get_function_result()["count"] == 3


@pytest.mark.parametrize(
    ("arguments", "options", "sent"),
    [
        ([], {}, {"ttl": "86400", "type": "text/plain"}),
        ([3600], {}, {"ttl": "3600", "type": "text/plain"}),
        ([3600, "s"], {}, {"ttl": "3600", "session_id": "s"}),
        ([], {"ttl": 3600, "session_id": "s"}, {"ttl": "3600", "session_id": "s"}),
        (["a/b"], {}, {"ttl": "86400", "type": "a/b"}),
        (["a/b", 2], {}, {"ttl": "7200", "type": "a/b"}),
        (["a/b", 2, "s"], {}, {"ttl": "7200", "type": "a/b", "session_id": "s"}),
        (["a/b", "s"], {}, {"ttl": "86400", "type": "a/b", "session_id": "s"}),
        (["a/b", "s", 5], {}, {"ttl": "18000", "type": "a/b", "session_id": "s"}),
        (["a/b", None, 5], {}, {"ttl": "18000", "type": "a/b"}),
        ([None, None, "s"], {}, {"ttl": "86400", "type": "text/plain", "session_id": "s"}),
        (["a/b"], {"ttl_hours": 1, "session_id": "s"},
         {"ttl": "3600", "type": "a/b", "session_id": "s"}),
        ([], {"content_type": "a/b", "ttl_hours": 1}, {"ttl": "3600", "type": "a/b"}),
    ],
)  # fmt: skip
def test_positions_of_temporary_files(
    arguments: list[Any], options: dict[str, Any], sent: dict[str, str], local: Path
) -> None:
    with FaultServer([json_response({"s3_url": S3})]) as server:
        result = GatewayClient("t", server.url).upload_temp_file(str(local), *arguments, **options)
        (request,) = server.requests
    body = request.body.decode()
    fields = {
        name: body.split(f'name="{name}"\r\n\r\n')[1].split("\r\n")[0]
        for name in ("ttl", "session_id")
        if f'name="{name}"' in body
    }
    content_type = body.split("Content-Type: ")[1].split("\r\n")[0]
    assert fields | {"type": content_type} == {"type": "text/plain"} | sent
    assert dict(result) == {"success": True, "s3_url": S3, "filename": "report.txt", "size": 14}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([3600, 2], {}),
        (["a/b"], {"content_type": "c/d"}),
        ([3600], {"ttl": 60}),
        ([3600, "s"], {"session_id": "t"}),
        ([3600], {"ttl_hours": 1}),
        ([3600, "s", "t"], {}),
        (["a/b", 1, "s", "t"], {}),
        ([3600, "s", 5], {}),
        ([], {"path": "/twice"}),
    ],
)
def test_arguments_that_contradict_each_other(
    arguments: list[Any], options: dict[str, Any], local: Path
) -> None:
    with FaultServer([]) as server:
        with pytest.raises(InvalidInput):
            GatewayClient("t", server.url).upload_temp_file(local, *arguments, **options)
        assert server.requests == []


# Downloads


def test_a_download_without_a_path_is_a_url(client: GatewayClient, local: Path) -> None:
    url = client.download_file(s3_url=client.upload_file(local))
    assert requests.get(url, timeout=30).text == "one two three\n"
    with pytest.raises(ObjectNotFoundError):
        client.download_file(client.upload_file(local).replace("report", "other"))


def test_a_download_creates_parents_and_overwrites(
    client: GatewayClient, local: Path, tmp_path: Path
) -> None:
    url = client.upload_file(local)
    target = tmp_path / "new" / "deep" / "copy.txt"
    assert client.download_file(url, str(target)) == target
    target.write_text("old")
    client.download_file(url, target, "presigned")
    assert target.read_text() == "one two three\n"
    target.write_text("old")
    with pytest.raises(LocalFileExists) as caught:
        client.download_file(url, target, overwrite=False)
    assert isinstance(caught.value, GatewayError) and isinstance(caught.value, FileExistsError)
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["copy.txt"]


def test_a_download_of_a_missing_file_creates_nothing(
    client: GatewayClient, local: Path, tmp_path: Path
) -> None:
    missing = client.upload_file(local).replace("report", "other")
    with pytest.raises(ObjectNotFoundError):
        client.download_file(missing, tmp_path / "new" / "copy.txt")
    assert not (tmp_path / "new").exists()


def test_errors_of_local_files_are_typed(
    client: GatewayClient, local: Path, tmp_path: Path
) -> None:
    url = client.upload_file(local)
    for target in (tmp_path, local / "below a file"):
        with pytest.raises(LocalFileError) as caught:
            client.download_file(url, target)
        assert isinstance(caught.value, OSError) and caught.value.message
    for upload in (client.upload_file, client.upload_temp_file, client.upload_input_file):
        with pytest.raises(LocalFileNotFound) as missing:
            upload(tmp_path / "missing")
        assert isinstance(missing.value, FileNotFoundError | ValueError)
        assert str(tmp_path / "missing") in str(missing.value)
        assert missing.value.filename == str(tmp_path / "missing")
        again = pickle.loads(pickle.dumps(missing.value))
        assert type(again) is LocalFileNotFound
    with pytest.raises(InvalidInput, match="'presigned', got 'stream'"):
        client.download_file(url, tmp_path / "f", "stream")


# Listings


def test_a_listing_is_a_page_and_all_urls(client: GatewayClient, local: Path) -> None:
    assert list(client.list_files()) == [] and not client.list_files()
    urls = sorted(client.upload_file(local) for _ in range(5))
    listing = client.list_files(limit=2)
    assert isinstance(listing, dict)
    assert [file["s3_url"] for file in listing["files"]] == urls[:2]
    assert all(file["size"] == 14 and file["last_modified"] for file in listing["files"])
    assert "next_token" in listing and "files" in listing and "other" not in listing
    assert listing.get("other", 3) == 3 and set(listing.keys()) == {"files", "next_token"}
    second = client.list_files(limit=2, continuation_token=listing["next_token"])
    assert [file["s3_url"] for file in second["files"]] == urls[2:4]
    last = client.list_files(2, second["next_token"])
    assert "next_token" not in last and last.get("next_token") is None
    assert json.loads(json.dumps(listing)) == dict(listing) == {**listing} == listing  # type: ignore[misc]
    for again in (pickle.loads(pickle.dumps(listing)), copy.copy(listing), copy.deepcopy(listing)):
        assert type(again) is dict and again == listing

    assert list(listing) == [url for url in listing] == urls  # noqa: C416
    assert (len(listing), listing[0], listing[-1], listing[1:3]) == (
        5, urls[0], urls[4], urls[1:3],
    )  # fmt: skip
    assert list(reversed(listing)) == urls[::-1] and bool(listing)
    assert urls[4] in client.list_files(limit=1) and f"{urls[4]}x" not in listing
    assert list(second) == urls[2:] and list(last) == urls[4:]
    assert listing == urls and urls == listing and not listing != urls  # noqa: SIM202
    assert listing != urls[:2] and listing != {} and listing != "files"
    assert listing + urls[:1] == urls + urls[:1] and urls[:1] + listing == urls[:1] + urls
    assert last + second == urls[4:] + urls[2:]  # type: ignore[operator]
    assert (listing.index(urls[3]), listing.count(urls[3]), listing.count("x")) == (3, 1, 0)
    with pytest.raises(IndexError):
        listing[5]
    with pytest.raises(KeyError):
        listing["other"]


def test_the_first_argument_of_a_listing(client: GatewayClient, local: Path) -> None:
    urls = sorted(client.upload_file(local) for _ in range(2))
    name = urls[0].split("/")[-2]
    assert len(client.list_files(1)["files"]) == 1
    assert list(client.list_files(name)) == list(client.list_files(prefix=name)) == urls[:1]
    with pytest.raises(InvalidInput, match="prefix was passed twice"):
        client.list_files(name, prefix="x")
    temporary = client.upload_temp_file(local, session_id="task-1")
    client.upload_temp_file(local, session_id="task-2")
    assert list(client.list_temp_files("task-1")) == [temporary]
    assert len(client.list_temp_files(limit=1)) == 2
    assert len(client.list_temp_files(prefix="task-2/")) == 1
    key = temporary.split("/")[-2]
    assert list(client.list_temp_files(None, "task-1")) == [temporary]
    assert list(client.list_temp_files(key, "task-1")) == [temporary]
    assert list(client.list_temp_files(key, "task-2")) == []
    with pytest.raises(InvalidInput, match="prefix was passed twice"):
        client.list_temp_files(key, "task-1", prefix="x")  # type: ignore[call-overload]


def test_listings_of_other_gateways() -> None:
    entry = {"s3_url": S3, "key": None, "size": None, "last_modified": None}
    with FaultServer(
        [json_response({"files": None, "next_token": None}), json_response({"files": [entry]})]
    ) as server:
        client = GatewayClient("t", server.url)
        assert client.list_files() == {"files": []} and client.list_files()[0] == S3
    pages = [json_response({"files": [entry], "next_token": "a"})] * 3
    with FaultServer(pages) as two, pytest.raises(InvalidAnswer, match="same continuation token"):
        list(GatewayClient("t", two.url).list_files())
    with FaultServer(
        [json_response({"files": [entry], "next_token": "a"}), json_response({}, 403)]
    ) as three:
        listing = GatewayClient("t", three.url).list_files()
        assert isinstance(listing, FileListing) and listing["files"][0]["s3_url"] == S3
        with pytest.raises(GatewayError):
            len(listing)


# Temporary files


def test_cleanup_without_a_session_removes_temporary_files_only(
    client: GatewayClient, local: Path
) -> None:
    permanent = client.upload_file(local)
    for session in ("a", "b", None):
        client.upload_temp_file(local, session_id=session)
    assert client.cleanup_temp_files(session_id="a") == 1
    assert client.cleanup_temp_files() == 2
    assert client.cleanup_temp_files() == 0
    assert list(client.list_temp_files()) == [] and list(client.list_files()) == [permanent]


@pytest.mark.parametrize("answer", [{"deleted_count": None}, {}, {"deleted_count": "0"}])
def test_a_count_that_is_missing(answer: Any) -> None:
    with FaultServer([json_response(answer)]) as server:
        assert GatewayClient("t", server.url).cleanup_temp_files() == 0


# Clients

INTERNAL, BEARER = "x-internal-token", "authorization"


@pytest.mark.parametrize(
    ("arguments", "options", "header", "value"),
    [
        (["tok", "URL"], {}, INTERNAL, "tok"),
        (["tok", "URL", 5], {}, INTERNAL, "tok"),
        (["Bearer tok"], {"base_url": "URL"}, INTERNAL, "tok"),
        ([], {"internal_token": "bearer tok", "base_url": "URL"}, INTERNAL, "tok"),
        (["URL"], {"internal_token": "tok"}, INTERNAL, "tok"),
        (["URL"], {"jwt_token": "jwt"}, BEARER, "Bearer jwt"),
        (["URL", None, "Bearer jwt"], {}, BEARER, "Bearer jwt"),
        (["URL", None, "jwt", 60], {}, BEARER, "Bearer jwt"),
        (["URL", None, None, 60], {"jwt_token": "jwt"}, BEARER, "Bearer jwt"),
        (["URL"], {"timeout": 120}, INTERNAL, None),
        (["URL"], {}, BEARER, None),
        ([], {"base_url": "URL"}, INTERNAL, None),
    ],
)
def test_constructor_forms(
    arguments: list[Any], options: dict[str, Any], header: str, value: str | None
) -> None:
    with FaultServer([json_response({"prefabs": []})]) as server:
        url = {"URL": server.url}
        client = GatewayClient(
            *[url.get(each, each) for each in arguments],
            **{name: url.get(each, each) for name, each in options.items()},
        )
        assert client.list_prefabs() == []
        assert client.base_url == server.url
        assert server.requests[0].headers.get(header) == value


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["URL", "sk-1"], {}),
        (["URL", "sk-1", "jwt", 60], {}),
        (["URL"], {"api_key": "Bearer sk-1"}),
        ([], {"base_url": "URL", "api_key": "sk-1", "jwt_token": "jwt"}),
    ],
)
def test_a_key_is_exchanged(arguments: list[Any], options: dict[str, Any]) -> None:
    with FaultServer(
        [json_response({"internal_token": "tok"}), json_response({"prefabs": []})]
    ) as server:
        url = {"URL": server.url}
        client = GatewayClient(
            *[url.get(each, each) for each in arguments],
            **{name: url.get(each, each) for name, each in options.items()},
        )
        assert client.internal_token is None
        client.list_prefabs()
        assert client.internal_token == "tok"
        exchange, call = server.requests
        assert exchange.headers[BEARER] == "Bearer sk-1"
        assert call.headers[INTERNAL] == "tok" and BEARER not in call.headers


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["http://h", "http://h"], {"api_key": "k"}),
        (["http://h"], {"base_url": "http://h"}),
        (["http://h", "k"], {"api_key": "k"}),
        (["http://h", "k", "j", 5, 6], {}),
        (["t", "http://h", 5, 6], {}),
        (["t", "http://h", 5], {"timeout": 6}),
        (["t"], {"internal_token": "u"}),
        (["t"], {"jwt_token": "j"}),
        (["http://h"], {"internal_token": "t", "api_key": "k"}),
        (["http://h", "", None], {}),
        (["http://h", None, 60], {}),
    ],
)
def test_constructor_forms_that_contradict_each_other(
    arguments: list[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        GatewayClient(*arguments, **options)


def test_attributes_can_be_read_and_set() -> None:
    with FaultServer([json_response({"prefabs": []}), json_response({"prefabs": []})]) as server:
        client = GatewayClient("tok", server.url, 60)
        assert (client.internal_token, client.timeout, client.base_url) == ("tok", 60, server.url)
        client.timeout = 120
        client.internal_token = "Bearer other"
        client.list_prefabs()
        assert (client.timeout, client.internal_token) == (120, "other")
        client.internal_token = None
        client.list_prefabs()
        sent = [request.headers.get(INTERNAL) for request in server.requests]
        assert sent == ["other", None]
        with pytest.raises(InvalidInput):
            client.timeout = 0
        with pytest.raises(InvalidInput):
            client.internal_token = "a\nb"
    assert GatewayClient(server.url, jwt_token="jwt").internal_token is None
    assert GatewayClient().timeout == 1200


def test_the_token_of_an_exchanged_key_is_readable(server: RunningServer) -> None:
    with server.sign_up() as account:
        key = account.create_api_key("published", agent_id="scout")["key"]
    token = GatewayClient.from_api_key(f"Bearer {key}", server.url).internal_token
    assert token and list(GatewayClient(f"Bearer {token}", server.url).list_files()) == []


# Calls


def test_functions_are_methods_of_a_prefab(client: GatewayClient, local: Path) -> None:
    probe = client.prefab("probe", "1.0.0")
    document = client.upload_input_file(local)
    result = probe.count(unit="words", files={"document": [document]})
    assert result.get_function_result()["count"] == 3
    assert probe.tell(times=1).is_success()
    assert probe.version == "1.0.0" and not hasattr(probe, "_repr_html_")
    with pytest.raises(AttributeError, match="no attribute '__len__'"):
        probe.__len__  # noqa: B018
    assert copy.copy(probe).tell(times=1).is_success()


def test_calls_are_mutable_and_dictionaries(client: GatewayClient) -> None:
    call = models.PrefabCall("probe", "1.0.0", "tell", {"times": 1})
    call.version = "latest"
    call.parameters = {"times": 2}
    sent = {
        "prefab_id": "probe", "version": "latest", "function_name": "tell",
        "inputs": {"parameters": {"times": 2}},
    }  # fmt: skip
    assert call.to_dict() == sent
    assert models.PrefabCall.from_dict(sent) == call
    with_files = models.PrefabCall("p", "1", "f", {}, {"in": [S3]})
    assert with_files.to_dict()["inputs"] == {"parameters": {}, "files": {"in": [S3]}}
    assert models.PrefabCall.from_dict(with_files.to_dict()) == with_files
    flat = {"prefab_id": "p", "version": "1", "function_name": "f", "parameters": None}
    assert models.PrefabCall.from_dict(flat) == models.PrefabCall("p", "1", "f")
    with pytest.raises(ValueError, match="no key 'version'"):
        models.PrefabCall.from_dict({"prefab_id": "p"})
    (result,) = client.run_batch([call]).results
    assert result.is_success()
    result.output = {"output": {"success": True}}
    assert result.get_business_success()


def test_events_are_created_from_dictionaries() -> None:
    event = models.StreamEvent.from_dict({"type": "content", "data": "a"})
    assert event.type is models.StreamEventType.CONTENT and event.data == "a"
    for data in ({"data": 1}, {"type": None, "data": 1}):
        assert models.StreamEvent.from_dict(data) == models.StreamEvent("content", 1)
    assert models.StreamEvent.from_dict({"type": "new"}) == models.StreamEvent("new")


def test_an_upload_result_is_created_from_a_url() -> None:
    assert dict(UploadResult(S3)) == {"success": True, "s3_url": S3}
