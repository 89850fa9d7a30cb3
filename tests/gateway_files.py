"""Helpers for tests of gateway files."""

from __future__ import annotations

from typing import Any

import requests

from tests.gateway_support import Agent


def up(agent: Agent, data: bytes = b"data", name: str = "a.txt") -> dict[str, Any]:
    answer = agent.files("POST", "upload", files={"file": (name, data, "text/plain")})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def up_temp(agent: Agent, data: bytes = b"data", **fields: Any) -> requests.Response:
    return agent.files("POST", "upload_temp", files={"file": ("t.txt", data)}, data=fields)


def down(agent: Agent, s3_url: str, **params: Any) -> requests.Response:
    return agent.files("GET", "download", params={"s3_url": s3_url, "mode": "presigned", **params})


def removed(agent: Agent, s3_url: str) -> requests.Response:
    return agent.call("DELETE", "/internal/files", params={"s3_url": s3_url})


def content(agent: Agent, s3_url: str) -> bytes:
    answer = down(agent, s3_url)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["presigned_url"]
    return requests.get(answer.json()["presigned_url"], timeout=30).content


def listed(agent: Agent, call: str = "list", **params: Any) -> list[str]:
    """Return the keys of all pages."""
    keys: list[str] = []
    token = None
    while True:
        answer = agent.files("GET", call, params=params | {"continuation_token": token}).json()
        keys += [found["key"] for found in answer["files"]]
        if "next_token" not in answer:
            return keys
        token = answer["next_token"]
