"""Helpers for tests of files: requests, and access to work_dirs on disk."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from beray import BeRayClient
from beray.server.workspace.workspace import Workspace, Workspaces
from beray.testing import RunningServer, authorization

TASK = 7
MIB = 1024 * 1024


def put(workspace: Workspace, path: str, data: bytes = b"new") -> None:
    with workspace.write(path) as writer:
        writer.write(data)


def read(workspace: Workspace, path: str) -> bytes:
    file, status = workspace.open_file(path)
    with file:
        data = file.read()
    assert len(data) == status.st_size
    return data


def staged(workspaces: Workspaces) -> list[str]:
    return os.listdir(workspaces.root / ".incoming")


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def make_chain(work_dir: Path, depth: int, name: str = "d") -> None:
    """Create ``depth`` nested directories, each with a file and a directory that sorts after it."""
    folder = os.open(work_dir, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        os.mkdir("e", dir_fd=folder)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        deeper = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)


class Files:
    """File requests of one task, and its work_dir on disk."""

    def __init__(self, server: RunningServer, client: BeRayClient) -> None:
        self.server = server
        self.session = requests.Session()
        self.session.headers.update(authorization(client))
        self.task_id = client.create_task("!true", start=False)["id"]
        self.url = f"{server.url}/api/v1/tasks/{self.task_id}/files"
        self.work_dir = server.data_dir / "workspaces" / str(self.task_id)
        self.incoming = server.data_dir / "workspaces" / ".incoming"

    def call(self, method: str, what: str, path: str | None = None, **options: Any) -> Any:
        params = None if path is None else {"path": path}
        return self.session.request(
            method, f"{self.url}/{what}", params=params, timeout=30, **options
        )

    def get(self, path: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response: requests.Response = self.call("GET", "content", path, headers=named)
        return response

    def put(self, path: str, data: Any) -> requests.Response:
        response: requests.Response = self.call("PUT", "content", path, data=data)
        return response

    def connect(self) -> socket.socket:
        host, port = self.server.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def head_of(self, method: str, what: str, *headers: str) -> bytes:
        """Return the head of a request, for a raw connection."""
        lines = [
            f"{method} /api/v1/tasks/{self.task_id}/files/{what} HTTP/1.1",
            "Host: localhost",
            f"Authorization: {self.session.headers['Authorization']!s}",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def descriptors(self) -> int:
        return psutil.Process(self.server.pid).num_fds()


def detail(response: requests.Response) -> str:
    body = response.json()
    assert list(body) == ["detail"]
    return str(body["detail"])


@contextmanager
def changing_folders(work_dir: Path) -> Iterator[None]:
    """Keep renaming, removing and creating the content of 50 directories, ``0`` to ``49``."""
    for number in range(50):
        (work_dir / f"{number}/a/b").mkdir(parents=True)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for number in range(50):
                (work_dir / f"{number}/a").rename(work_dir / f"{number}/moved")
                (work_dir / f"{number}/moved/b").rmdir()
                (work_dir / f"{number}/moved").rmdir()
                (work_dir / f"{number}/a/b").mkdir(parents=True)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
