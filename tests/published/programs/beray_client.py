"""Use every method of the published BeRay client, 0.1.2.

beray_client.py URL EMAIL PASSWORD NEW_EMAIL OUTBOX
"""

import io
import json
import re
import sys
import time
import zipfile
from pathlib import Path

from beray.client import BeRayClient
from beray.exceptions import (
    APIError,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    UnprocessableEntityError,
)

url, email, password, new_email, outbox = sys.argv[1:]
found = {}


def failure(expected, attempt):
    try:
        attempt()
    except APIError as error:
        assert type(error) is expected, repr(error)
        return error.status_code
    except AuthenticationError as error:
        assert expected is AuthenticationError, repr(error)
        return str(error)
    raise AssertionError(f"no {expected.__name__}")


def mailed(address):
    """Return the code in the last mail to an address; mails are written in the background."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for mail in sorted(Path(outbox).glob("*"), reverse=True):
            text = mail.read_text(errors="replace")
            code = re.search(r"\b(\d{6})\b", text.partition("\n\n")[2])
            if address in text and code:
                return code[1]
        time.sleep(0.05)
    raise AssertionError("no mail")


new = BeRayClient(base_url=url)
assert "message" in new.request_verification_code(new_email)
registered = new.register(
    email=new_email, verification_code=mailed(new_email), password="a_very_secure_password"
)
found["registered"] = registered["user"]["email"]
found["conflict"] = failure(ConflictError, lambda: new.request_verification_code(email))

client = BeRayClient(url)
failure(AuthenticationError, client.get_current_user)
failure(AuthenticationError, lambda: client.login(email, "wrong password"))
found["user"] = client.login(email, password)["user"]["email"]
assert client.login_with_form(email, password)["token_type"] == "bearer"
assert client.get_current_user()["email"] == email

task = client.create_task(goal="!echo hello; mkdir results; echo text > results/summary.txt")
assert {"id", "goal", "status"} <= set(task)
updates = list(client.stream_task_updates(task_id=task["id"]))
json.dumps(updates, indent=2, ensure_ascii=False)
found["updates"] = [update["type"] for update in updates]
found["status"] = updates[-1]["status"]
found["count"] = len(client.list_tasks())
found["events"] = len(client.get_task(task_id=task["id"])["events"])
assert client.create_task("!true", tools=[])["id"]

names = [item["name"] for item in client.list_files_tree(task_id=task["id"])]
found["tree"] = names
(inner,) = client.list_files_tree(task["id"], path="results")
assert inner["type"] == "file"
saved = client.upload_file(task["id"], path="source_code/main.py", content="print('ü')")
assert saved["path"] == "source_code/main.py" and saved["size"] == 11
client.upload_file(task["id"], "image.png", b"\x89PNG\x00", content_type="image/png")
response = client.get_file_content(task["id"], path="image.png")
assert response.ok and response.content == b"\x89PNG\x00"
for paths in (None, ["results/summary.txt", "source_code/"]):
    response = client.download_files_as_zip(task["id"], paths=paths)
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    found.setdefault("zips", []).append(
        sorted(name for name in archive.namelist() if name[-1:] != "/")
    )

sleeping = client.create_task("!sleep 600")
assert "message" in client.stop_task(task_id=sleeping["id"])
found["stopped"] = list(client.stream_task_updates(sleeping["id"]))[-1]["status"]
found["deleted"] = client.delete_task(task_id=sleeping["id"])["status"]
found["gone"] = failure(NotFoundError, lambda: client.get_task(sleeping["id"]))
found["no_file"] = failure(NotFoundError, lambda: client.get_file_content(task["id"], "none"))
found["empty_goal"] = failure(UnprocessableEntityError, lambda: client.create_task(goal=""))

headers = client._session.headers  # noqa: SLF001 - the published client has no other access
token = headers["Authorization"].removeprefix("Bearer ")
assert BeRayClient(url, token=token).get_current_user()["email"] == email
assert "message" in client.logout()
assert "Authorization" not in client._session.headers  # noqa: SLF001
failure(AuthenticationError, BeRayClient(url, token).get_current_user)

print(json.dumps(found))
