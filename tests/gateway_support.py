"""Helpers for tests of the server's gateway: agents with tokens, and plain requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import boto3
import requests

from beray import BeRayClient
from beray.testing import RunningServer


def exchange(server: RunningServer, key: str) -> requests.Response:
    return requests.post(
        f"{server.url}/v1/auth/convert_to_internal_token",
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )


@dataclass(frozen=True)
class Agent:
    """Gateway user with an internal token."""

    server: RunningServer
    account: BeRayClient
    user_id: int
    agent_id: str | None
    api_key: str
    token: str

    @classmethod
    def of(
        cls, server: RunningServer, account: BeRayClient, agent_id: str | None = "scout"
    ) -> Self:
        key = account.create_api_key("tests", agent_id)["key"]
        token = exchange(server, key).json()["internal_token"]
        user_id = int(account.get_current_user()["id"])
        return cls(server, account, user_id, agent_id, key, token)

    @classmethod
    def new(cls, server: RunningServer, agent_id: str | None = "scout") -> Self:
        return cls.of(server, server.sign_up(), agent_id)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-Internal-Token": self.token, **options.pop("headers", {})}
        return requests.request(
            method, f"{self.server.url}{path}", headers=headers, timeout=60, **options
        )

    def files(self, method: str, call: str, **options: Any) -> requests.Response:
        return self.call(method, f"/internal/files/{call}", **options)


@dataclass(frozen=True)
class S3Server:
    """Yield the URL of a server of the S3 protocol."""

    url: str

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="hush-hush",
        )

    def new_bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return name

    def environ(self, bucket: str) -> dict[str, str]:
        return {
            "BERAY_S3_BUCKET": bucket,
            "BERAY_S3_ENDPOINT": self.url,
            "BERAY_S3_REGION": "us-east-1",
            "BERAY_S3_ACCESS_KEY_ID": "tests",
            "BERAY_S3_SECRET_ACCESS_KEY": "hush-hush",
        }


def refusal(answer: requests.Response) -> tuple[int, str]:
    """Return status and error code of an error response, after checking its form."""
    detail = answer.json()["detail"]
    assert isinstance(detail["message"], str), detail
    return answer.status_code, detail["error_code"]


async def pieces(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
