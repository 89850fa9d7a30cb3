"""An MCP server in one string, for Python without any packages: it runs shell commands."""

SOURCE = r"""
import json, subprocess, sys

TOOL = {
    "name": "sh",
    "description": "Run a shell command",
    "inputSchema": {"type": "object", "properties": {"command": {"type": "string"}}},
}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "1"},
        }
    elif asked["method"] == "tools/list":
        answer["result"] = {"tools": [TOOL]}
    elif asked["method"] == "tools/call":
        command = asked["params"]["arguments"]["command"]
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        text = (ended.stdout + ended.stderr).strip()
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(answer), flush=True)
"""
