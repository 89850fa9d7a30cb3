"""Run functions with a published gateway SDK: all calls that every version has.

    gateway_runs.py CREDENTIAL_TYPE URL CREDENTIAL S3_URL

``CREDENTIAL_TYPE`` is ``api_key``, ``jwt``, ``internal``, ``exchange`` or ``none``.
"""

import json
import sys

from gateway_sdk import GatewayClient, PrefabCall
from gateway_sdk.exceptions import (
    AuthenticationError,
    GatewayError,
    MissingSecretError,
    PrefabNotFoundError,
    QuotaExceededError,
    ServiceUnavailableError,
    ValidationError,
)

credential_type, url, credential, document = sys.argv[1:]


def client(credential, url=url):
    match credential_type:
        case "api_key":
            return GatewayClient(base_url=url, api_key=credential)
        case "jwt":
            return GatewayClient(url, None, credential)
        case "internal":
            return GatewayClient(credential, url)
        case "exchange":
            return GatewayClient.from_api_key(credential, base_url=url)
    return GatewayClient(base_url=url)


def failure(expected, attempt):
    """Return the attributes of the exception, which must have exactly this class."""
    try:
        attempt()
    except GatewayError as error:
        assert type(error) is expected, repr(error)
        return {"text": str(error), **vars(error)}
    raise AssertionError(f"no {expected.__name__}")


gateway = client(credential)
found = {}

files = {"document": [document]}
result = gateway.run("probe", "1.0.0", "count", {"unit": "words"}, files)
assert result.is_success(), result
found["run"] = {
    "status": result.status,
    "output": result.output["output"],
    "files": result.get_files(),
    "job_id": bool(result.job_id),
    "get": result.get("status"),
}
if hasattr(result, "get_function_result"):
    assert result.get_function_result() == result.output["output"]
    assert result.get_business_success() is False and result.get_business_message() == ""

batch = gateway.run_batch(
    [
        PrefabCall("probe", "1.0.0", "count", {"unit": unit}, files)
        for unit in ("words", "characters")
    ]
    + [PrefabCall("probe", "1.0.0", "wrong", {})]
)
found["batch"] = {
    "status": batch.status,
    "all_success": batch.all_success(),
    "results": [call.status for call in batch.results],
    "failed": [call.error["code"] for call in batch.get_failed()],
}

events = list(gateway.run("probe", "1.0.0", "tell", {"times": 2}, stream=True))
found["stream"] = [event.type.value for event in events]
assert events[1].type == "content" and events[1].data == "piece 0"
for event in gateway.run("probe", "1.0.0", "tell", {"times": 5}, stream=True):
    if event.type == "content":
        found["left_at"] = event.data
        break

found["no_prefab"] = failure(PrefabNotFoundError, lambda: gateway.run("none", "1.0.0", "main", {}))[
    "text"
]
found["invalid"] = failure(
    ValidationError, lambda: gateway.run("probe", "1.0.0", "count", {"unit": "inches"}, files)
)["text"]
found["secret"] = failure(MissingSecretError, lambda: gateway.run("probe", "1.0.0", "whisper", {}))
many = [PrefabCall("probe", "1.0.0", "count", {"unit": "words"}, files)] * 60
found["quota"] = failure(QuotaExceededError, lambda: gateway.run_batch(many))
if credential_type != "none":
    failure(AuthenticationError, lambda: client("sk-wrong").run("probe", "1.0.0", "count", {}))
if credential_type != "exchange":
    closed = client(credential, "http://127.0.0.1:9")
    failure(ServiceUnavailableError, lambda: closed.run("probe", "1.0.0", "count", {}))

print(json.dumps(found))
