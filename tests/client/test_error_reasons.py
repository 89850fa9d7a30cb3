"""Exceptions contain the parts of their message, so that no code has to parse it."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import requests

from beray import exceptions as errors
from beray.cli.errors import error_text, os_error_text
from beray.gateway import exceptions as gateway
from beray.gateway.errors import gateway_error
from beray.http._requests_compat import set_content
from beray.http.errors import api_error
from beray.http.request import ApiRequest, outcome_unknown_error
from beray.transfers import staging
from beray.transfers.local_files import require_absent


def response(status: int, body: bytes) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.raw = None
    set_content(made, body)
    return made


@pytest.mark.parametrize(
    ("method", "message"), [("GET", "GET /tasks/1: it broke"), ("", "/tasks/1: it broke")]
)
def test_the_message_names_the_request_and_the_reason_does_not(method: str, message: str) -> None:
    error = errors.ConnectionFailed.for_request(method, "/tasks/1", "it broke", delivered=False)
    assert (str(error), error.reason) == (message, "it broke")
    assert (error.method, error.path, error.delivered) == (method, "/tasks/1", False)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.reason) == (message, "it broke")


def test_a_message_without_a_request_is_its_own_reason() -> None:
    assert errors.InvalidArgument("depth must be at least 1").reason == "depth must be at least 1"
    assert errors.APIError(404, "no such task").reason == "status 404: no such task"


def test_an_error_response() -> None:
    error = api_error(response(404, b'{"detail": "No such task."}'), "GET", "/tasks/1")
    assert str(error) == "404 for GET /tasks/1: No such task."
    assert error.reason == "No such task."
    assert error_text(error) == "No such task. (404)"


def test_an_unknown_outcome_keeps_the_reason_of_the_failure() -> None:
    request = ApiRequest("POST", "/tasks/", False, (1.0, 1.0), {})
    failure = errors.ConnectionFailed.for_request("POST", "/tasks/", "the connection broke")
    error = outcome_unknown_error(request, failure)
    advice = "it is unknown whether the server processed POST /tasks/: check before you repeat it"
    assert str(error) == f"POST /tasks/: the connection broke; {advice}"
    assert error.reason == f"the connection broke; {advice}"


def test_a_gateway_error_has_the_reason_of_its_message() -> None:
    failure = errors.ConnectionFailed.for_request("GET", "/v1/prefabs", "could not reach it")
    converted = gateway_error(failure)
    assert isinstance(converted, gateway.Unreachable)
    assert converted.message == str(converted) == "GET /v1/prefabs: could not reach it"
    assert converted.reason == "could not reach it"


def test_the_message_of_the_gateway_is_the_reason() -> None:
    body = b'{"detail": {"message": "The quota is used up.", "limit": 3}}'
    converted = gateway_error(api_error(response(429, body), "POST", "/v1/run"))
    assert isinstance(converted, gateway.QuotaExceededError)
    assert converted.message == converted.reason == "The quota is used up."
    assert error_text(converted) == "The quota is used up. (429)"


def test_existing_targets(tmp_path: Path) -> None:
    files = [tmp_path / f"{number:02}" for number in range(12)]
    for file in files:
        file.touch()
    with pytest.raises(errors.TargetsExist) as caught:
        require_absent(files[0], overwrite=False)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.paths == (str(files[0]),)
    assert error.reason == os_error_text(error) == f"{files[0]} already exists"
    assert str(error) == f"{files[0]} already exists; pass overwrite=True to replace"
    with pytest.raises(errors.TargetsExist) as caught:
        require_absent(*files, overwrite=False)
    assert caught.value.reason.endswith("09 and 2 more already exist")
    require_absent(*files, overwrite=True)


def test_a_local_failure_of_a_transfer(tmp_path: Path) -> None:
    with pytest.raises(errors.TransferError) as caught, staging.disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"{tmp_path}: No space left on device"
    assert caught.value.reason == "No space left on device"
