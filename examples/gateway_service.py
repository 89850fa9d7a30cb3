r"""Web service that calls prefabs with the token of each incoming request.

    pip install '.[server,prefabs]' && beray serve --port 8000
    python examples/gateway_service.py http://127.0.0.1:8000 8080

Exchange an API key (``beray apikey new service``) for an internal token, and send the token:

    key='sk-…' gateway=http://127.0.0.1:8000 service=http://127.0.0.1:8080
    token=$(curl -s -X POST -H "Authorization: Bearer $key" \
        $gateway/v1/auth/convert_to_internal_token | cut -d '"' -f 4)
    curl -s -H "X-Internal-Token: $token" $service/prefabs
    file=$(curl -s -H "X-Internal-Token: $token" -F file=@README.md $service/files)
    curl -s -H "X-Internal-Token: $token" -H 'Content-Type: application/json' \
        -d "{\"files\": {\"documents\": [$file]}}" $service/run/document-text/latest/info
    curl -sN -H "X-Internal-Token: $token" -H 'Content-Type: application/json' \
        -d "{\"files\": {\"documents\": [$file]}, \"parameters\": {\"format\": \"markdown\"}}" \
        $service/stream/document-text/latest/extract

Each request has its own client with the token of its sender. All clients share connections.
"""

import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from beray import APIError
from beray.gateway import GatewayClient, GatewayError, PrefabStream, StreamEvent, ValidationError

app = FastAPI()


class Inputs(BaseModel, extra="forbid"):
    """Request body of a call; ``files`` contains ``s3://`` URLs as returned by ``/files``."""

    parameters: dict[str, Any] = {}
    files: dict[str, list[str]] = {}


def gateway(request: Request, x_internal_token: Annotated[str, Header()]) -> GatewayClient:
    """Return a client with the token of the request. Requests without a token are rejected."""
    return GatewayClient(x_internal_token, request.app.state.gateway_url)


Gateway = Annotated[GatewayClient, Depends(gateway)]


@app.exception_handler(GatewayError)
def error_response(_: Request, error: GatewayError) -> JSONResponse:
    """Forward error responses of the gateway; return 422 or 502 for errors of the client."""
    if isinstance(error, APIError):
        status = error.status_code
    else:
        status = 422 if isinstance(error, ValidationError) else 502
    return JSONResponse({"detail": error.message}, status)


@app.get("/prefabs")
def prefabs(client: Gateway) -> list[dict[str, Any]]:
    """Return all prefabs."""
    return [asdict(prefab) for prefab in client.list_prefabs()]


@app.post("/files")
def upload(client: Gateway, file: UploadFile) -> str:
    """Upload an input file for prefabs under its own name, and return its ``s3://`` URL."""
    with TemporaryDirectory() as directory:
        path = Path(directory, Path(file.filename or "").name)
        try:
            local = path.open("xb")
        except (OSError, ValueError):
            raise HTTPException(422, f"invalid file name: {file.filename!r}") from None
        with local:
            shutil.copyfileobj(file.file, local)
        return client.upload_input_file(path)


@app.post("/run/{prefab_id}/{version}/{function}")
def run(
    client: Gateway, prefab_id: str, version: str, function: str, inputs: Inputs
) -> dict[str, Any]:
    """Call a function, and return its result and its output files."""
    result = client.run(prefab_id, version, function, inputs.parameters, inputs.files)
    if not result.is_success():
        return {"error": result.error}
    return {"result": result.get_function_result(), "files": result.get_files()}


@app.post("/stream/{prefab_id}/{version}/{function}")
def stream(
    client: Gateway, prefab_id: str, version: str, function: str, inputs: Inputs
) -> StreamingResponse:
    """Call a function, and stream its events as lines of JSON."""
    events = client.run(prefab_id, version, function, inputs.parameters, inputs.files, stream=True)
    first = next(events)  # raises if the call is rejected, before the response has started
    return StreamingResponse(lines(first, events), media_type="application/x-ndjson")


async def lines(first: StreamEvent, events: PrefabStream) -> AsyncIterator[str]:
    """Yield each event as a line of JSON; the last line reports an error of the stream."""
    event: StreamEvent | None = first
    try:
        while event is not None:
            yield json.dumps({"type": event.type, "data": event.data}) + "\n"
            event = await anyio.to_thread.run_sync(next, events, None, abandon_on_cancel=True)
    except GatewayError as error:
        yield json.dumps({"type": "error", "data": {"message": error.message}}) + "\n"
    finally:
        # Ends the call if the client disconnects, and wakes a thread that waits for an event.
        events.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    app.state.gateway_url = sys.argv[1]
    uvicorn.run(app, port=int(sys.argv[2]) if len(sys.argv) == 3 else 8080)
