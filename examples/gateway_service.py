"""A service that calls prefabs for whoever asks, with the token that came with the request.

    python examples/gateway_service.py GATEWAY_URL [PORT]

    curl -H 'X-Internal-Token: …' http://127.0.0.1:8080/prefabs
    curl -H 'X-Internal-Token: …' -d '{"text": "hello"}' http://127.0.0.1:8080/run/text/1.0.0/count
    curl -H 'X-Internal-Token: …' -d '{}' http://127.0.0.1:8080/stream/text/1.0.0/count

There is a client for each request, as who asks; all of them share their connections.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Annotated, Any

import uvicorn
from fastapi import Body, Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse

from beray import APIError
from beray.gateway import GatewayClient, GatewayError, PrefabStream, StreamEvent, ValidationError

app = FastAPI()


def gateway(request: Request, x_internal_token: Annotated[str, Header()]) -> GatewayClient:
    """The gateway, as whoever asks. Without the header, the request does not get here."""
    return GatewayClient(x_internal_token, request.app.state.gateway_url)


Gateway = Annotated[GatewayClient, Depends(gateway)]
Parameters = Annotated[dict[str, Any], Body()]


@app.exception_handler(GatewayError)
def refused(_: Request, error: GatewayError) -> JSONResponse:
    """Hand on what the gateway said; what went wrong on the way there is a 502."""
    wrong_here = 422 if isinstance(error, ValidationError) else 502
    status = error.status_code if isinstance(error, APIError) else wrong_here
    return JSONResponse({"detail": error.message}, status)


@app.get("/prefabs")
def prefabs(client: Gateway) -> list[dict[str, Any]]:
    return [asdict(prefab) for prefab in client.list_prefabs()]


@app.post("/run/{prefab_id}/{version}/{function}")
def run(
    client: Gateway, prefab_id: str, version: str, function: str, parameters: Parameters
) -> dict[str, Any]:
    result = client.run(prefab_id, version, function, parameters)
    if not result.is_success():
        return {"error": result.error}
    return {"result": result.get_function_result(), "files": result.get_files()}


@app.post("/stream/{prefab_id}/{version}/{function}")
def stream(
    client: Gateway, prefab_id: str, version: str, function: str, parameters: Parameters
) -> StreamingResponse:
    events = client.run(prefab_id, version, function, parameters, stream=True)
    first = next(events)  # what is refused is refused before this answer has begun
    return StreamingResponse(lines(first, events), media_type="application/x-ndjson")


def lines(first: StreamEvent, events: PrefabStream) -> Iterator[str]:
    """Each event as a line; a run that breaks off has that as its last one."""
    with events:
        try:
            for event in chain([first], events):
                yield json.dumps({"type": event.type, "data": event.data}) + "\n"
        except GatewayError as error:
            yield json.dumps({"type": "error", "data": {"message": error.message}}) + "\n"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    app.state.gateway_url = sys.argv[1]
    uvicorn.run(app, port=int(sys.argv[2]) if len(sys.argv) == 3 else 8080)
