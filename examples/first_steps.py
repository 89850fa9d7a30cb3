"""First steps as a script: sign in, create a task, watch it, and download its files.

    BERAY_EMAIL=you@example.com BERAY_PASSWORD=… python examples/first_steps.py [URL]

The script works with any BeRay server, such as one started by ``beray serve``.
"""

import json
import os
import sys

from beray import BeRayClient
from beray.exceptions import APIError, AuthenticationError

client = BeRayClient(base_url=sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")

# 1. Sign in
try:
    client.login(os.environ["BERAY_EMAIL"], os.environ["BERAY_PASSWORD"])
except AuthenticationError as error:
    sys.exit(f"Could not sign in: {error}")
user = client.get_current_user()
print(f"Signed in as {user['email']} (ID: {user['id']})")

try:
    # 2. Create a task
    task = client.create_task(
        "!echo 'print(\"hello\")' > hello.py; ls -l",
        tools=[{"docs": {"url": "https://docs.example/mcp"}}],
    )
    print(f"Task {task['id']} is {task['status']}: {task['goal']}")
    print(f"Number of tasks: {len(client.list_tasks())}")

    # 3. Watch the task until it ends
    for update in client.stream_task_updates(task["id"]):
        print(json.dumps(update, indent=2, ensure_ascii=False))

    # 4. Upload files to its work_dir: text and bytes
    response = client.upload_file(task["id"], "notes/read me.txt", "Hello, 世界\n")
    print(response["message"])
    client.upload_file(
        task["id"], "data.bin", b"\x00\x01\x02", content_type="application/octet-stream"
    )

    # 5. List and download its files
    print(client.list_files_tree(task["id"]))
    content = client.get_file_content(task["id"], "notes/read me.txt")
    if content.ok:
        print(content.content.decode())
    selected = client.download_files_as_zip(task["id"], ["hello.py", "notes"])
    everything = client.download_files_as_zip(task["id"])
    print(
        f"ZIP of two paths: {len(selected.content)} bytes, of all: {len(everything.content)} bytes"
    )

    # 6. Clean up
    print(client.stop_task(task["id"])["message"])
    print(client.delete_task(task["id"])["message"])
except APIError as error:
    sys.exit(f"The request failed with status {error.status_code}: {error.error_detail}")
finally:
    print(client.logout()["message"])
