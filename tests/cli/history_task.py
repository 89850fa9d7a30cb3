"""A finished task that has changed files, for tests of the commands for its history."""

from __future__ import annotations

from collections.abc import Mapping

from beray.client import BeRayClient

BEFORE = {
    "text.txt": b"".join(b"line %d\n" % number for number in range(1, 31)),
    "gone.txt": b"gone\n",
    "src/moved.py": b"def moved():\n    return 1\n" * 5,
    "data.bin": bytes(range(256)),
}
GOAL = """!
sed -i 's/^line 15$/line fifteen/' text.txt
rm gone.txt
mkdir lib empty && mv src/moved.py lib/moved.py
chmod +x lib/moved.py
printf 'new\\000' > data.bin
printf 'new\\n' > new.txt
ln -s new.txt link
"""


def run_task(client: BeRayClient, files: Mapping[str, bytes] = BEFORE, goal: str = GOAL) -> int:
    """Run a shell command in a work_dir with files, and return the id of the task."""
    task_id = client.create_task(goal, start=False)["id"]
    for path, content in files.items():
        client.upload_file(task_id, path, content)
    client.start_task(task_id)
    task = client.wait(task_id)
    assert task["status"] == "COMPLETED", task
    return int(task_id)
