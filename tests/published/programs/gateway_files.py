"""Use the files of a gateway with a published SDK, 0.5.0 or later.

gateway_files.py URL API_KEY KEY_WITHOUT_AGENT FOLDER
"""

import json
import os
import sys
from pathlib import Path

import httpx
from gateway_sdk import AgentContextRequiredError, GatewayClient
from gateway_sdk.exceptions import GatewayError

url, api_key, person_key = sys.argv[1:4]
folder = Path(sys.argv[4])
client = GatewayClient.from_api_key(api_key, base_url=url)
found = {}

report = folder / "report ü.txt"
report.write_text("one two three")

kept = client.upload_file(str(report))
assert set(kept) >= {"success", "s3_url", "filename", "size"}, kept
found["kept"] = [kept["success"], kept["filename"], kept["size"], kept["s3_url"].split("/")[3]]

target = folder / "below" / "copy.txt"
client.download_file(kept["s3_url"], str(target))
assert target.read_text() == "one two three"
presigned = client.get_presigned_url(kept["s3_url"], expires_in=60)
found["presigned"] = httpx.get(presigned).text

for _ in range(2):
    client.upload_file(str(report))
pages, token = [], None
while True:
    page = client.list_files(limit=2, continuation_token=token)
    pages.append(len(page["files"]))
    assert set(page["files"][0]) >= {"key", "size", "last_modified", "s3_url"}
    if "next_token" not in page:
        break
    token = page["next_token"]
found["pages"] = pages

session = f"session-{os.getpid()}"
temporary = client.upload_temp_file(str(report), ttl=3600, session_id=session)
client.upload_temp_file(str(report))
found["temporary"] = temporary["s3_url"].split("/")[3]
listed = client.list_temp_files(session_id=session)
found["session"] = [file["s3_url"] == temporary["s3_url"] for file in listed["files"]]
found["all_temporary"] = len(client.list_temp_files()["files"])
found["cleaned"] = client.cleanup_temp_files(session_id=session)
found["left"] = len(client.list_temp_files(session_id=session)["files"])

document = client.upload_input_file(str(report), content_type="text/plain")
result = client.run("probe", "1.0.0", "count", {"unit": "words"}, {"document": [document]})
found["words"] = result.get_function_result()["count"]
(copy,) = result.get_files()["copy"]
client.download_file(copy, str(target))
assert target.read_text() == "one two three"

person = GatewayClient.from_api_key(person_key, base_url=url)
found["input_of_person"] = person.upload_input_file(str(report)).split("/")[3]
for attempt in (
    lambda: person.upload_file(str(report)),
    lambda: person.upload_temp_file(str(report)),
    person.list_files,
    person.list_temp_files,
    lambda: person.cleanup_temp_files(session),
):
    try:
        attempt()
    except AgentContextRequiredError:
        continue
    raise AssertionError("an agent is required")
try:
    client.get_presigned_url("s3://beray/agent-outputs/0/unknown/x.txt")
except GatewayError as error:
    found["missing"] = type(error).__name__

print(json.dumps(found))
