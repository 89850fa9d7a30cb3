"""Use the agent WebSocket as the documents of its clients describe, over aiohttp.

    agent_client.py VERSION BASE_URL [CHAT]

``VERSION`` is 1.0, whose URL is used verbatim, or 1.1, which appends the path of a chat. The
base URL contains the token. Unknown message types end an answer, as in the published client.
"""

import asyncio
import json
import sys
from urllib.parse import urljoin

import aiohttp

version, base_url, *rest = sys.argv[1:]
chat = rest[0] if rest else "0"
FIELDS = {
    "AGENT_EVENT_TEXT_CHUNK": {"text": str},
    "AGENT_EVENT_TOOL_CALL_CHUNK": {},
    "AGENT_EVENT_TOOL_RESULT": {"tool_name": str, "result": object},
    "AGENT_EVENT_CUSTOM_UPDATE": {"payload": dict},
    "AGENT_EVENT_END": {"tokens_used": int},
    "ERROR": {"code": str, "details": str},
    "GRACEFUL_DISCONNECT": {},
}
if version == "1.1":
    FIELDS["AGENT_EVENT_SEND_FILE"] = {"path": str}


def checked(text):
    message = json.loads(text)
    for name, field_type in FIELDS[message["type"]].items():
        assert isinstance(message[name], field_type), message
    return message


async def main():
    url = base_url if version == "1.0" else urljoin(base_url, f"v1/agent_ws/{chat}/")
    found = {}
    async with aiohttp.ClientSession() as session:
        try:
            socket = await session.ws_connect(url, heartbeat=30)
        except aiohttp.WSServerHandshakeError as error:
            return {"refused": error.status}
        async with socket:
            status = await asyncio.wait_for(socket.receive(), 5)
            found["first"] = json.loads(status.data)
            second = urljoin(base_url, f"/v1/agent_ws/{chat}/")
            try:
                await session.ws_connect(second)
            except aiohttp.WSServerHandshakeError as error:
                found["second_client"] = error.status
            message = {"type": "USER_MESSAGE", "text": "make a file"}
            if version == "1.1":
                message["attachments"] = []
            await socket.send_str(json.dumps(message))
            found["answer"] = []
            async for frame in socket:
                assert frame.type is aiohttp.WSMsgType.TEXT
                found["answer"].append(checked(frame.data))
                if found["answer"][-1]["type"] in ("AGENT_EVENT_END", "ERROR"):
                    break
    return found


print(json.dumps(asyncio.run(main())))
