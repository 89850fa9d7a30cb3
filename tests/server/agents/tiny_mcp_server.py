"""Source of an MCP server that executes shell commands and needs only the standard library."""

SOURCE = r"""
import json, subprocess, sys

TOOL = {
    "name": "sh",
    "description": "Run a shell command",
    "inputSchema": {"type": "object", "properties": {"command": {"type": "string"}}},
}
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    response = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        response["result"] = {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "1"},
        }
    elif request["method"] == "tools/list":
        response["result"] = {"tools": [TOOL]}
    elif request["method"] == "tools/call":
        command = request["params"]["arguments"]["command"]
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        text = (ended.stdout + ended.stderr).strip()
        response["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        response["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(response), flush=True)
"""
