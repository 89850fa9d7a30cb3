"""Call the gateway from a process that BeRay started, as the README of the SDK shows."""

import json
import os

from gateway_sdk import GatewayClient

client = GatewayClient(
    internal_token=os.environ.get("X_INTERNAL_TOKEN"), base_url=os.environ["BERAY_GATEWAY_URL"]
)
with open("result.txt", "w") as file:
    file.write("result")
kept = client.upload_file("result.txt")
outputs = client.run("probe", "1.0.0", "outputs", {})
print("FOUND " + json.dumps([kept["filename"], kept["s3_url"], outputs.is_success()]))
