r"""A service that calls prefabs for whoever asks, with the token that came with the request.

    pip install '.[server,prefabs]' && beray serve --port 8000
    python examples/gateway_service.py http://127.0.0.1:8000 8080

An API key (``beray apikey new service``) is exchanged for such a token; then ask the service:

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

There is a client for each request, as who asks; all of them share their connections.
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
    """What a function is given; ``files`` are lists of ``s3://`` URLs, such as ``/files`` says."""

    parameters: dict[str, Any] = {}
    files: dict[str, list[str]] = {}


def gateway(request: Request, x_internal_token: Annotated[str, Header()]) -> GatewayClient:
    """The gateway, as whoever asks. Without the header, the request does not get here."""
    return GatewayClient(x_internal_token, request.app.state.gateway_url)


Gateway = Annotated[GatewayClient, Depends(gateway)]


@app.exception_handler(GatewayError)
def refused(_: Request, error: GatewayError) -> JSONResponse:
    """Hand on what the gateway said; what went wrong on the way there is a 502."""
    wrong_here = 422 if isinstance(error, ValidationError) else 502
    status = error.status_code if isinstance(error, APIError) else wrong_here
    return JSONResponse({"detail": error.message}, status)


@app.get("/prefabs")
def prefabs(client: Gateway) -> list[dict[str, Any]]:
    return [asdict(prefab) for prefab in client.list_prefabs()]


@app.post("/files")
def upload(client: Gateway, file: UploadFile) -> str:
    """Put a file where prefabs find it, under its own name; its ``s3://`` URL."""
    with TemporaryDirectory() as folder:
        path = Path(folder, Path(file.filename or "").name)
        try:
            local = path.open("xb")
        except (OSError, ValueError):
            raise HTTPException(422, "no file can have this name") from None
        with local:
            shutil.copyfileobj(file.file, local)
        return client.upload_input_file(path)


@app.post("/run/{prefab_id}/{version}/{function}")
def run(
    client: Gateway, prefab_id: str, version: str, function: str, inputs: Inputs
) -> dict[str, Any]:
    result = client.run(prefab_id, version, function, inputs.parameters, inputs.files)
    if not result.is_success():
        return {"error": result.error}
    return {"result": result.get_function_result(), "files": result.get_files()}


@app.post("/stream/{prefab_id}/{version}/{function}")
def stream(
    client: Gateway, prefab_id: str, version: str, function: str, inputs: Inputs
) -> StreamingResponse:
    events = client.run(prefab_id, version, function, inputs.parameters, inputs.files, stream=True)
    first = next(events)  # what is refused is refused before this answer has begun
    return StreamingResponse(lines(first, events), media_type="application/x-ndjson")


async def lines(first: StreamEvent, events: PrefabStream) -> AsyncIterator[str]:
    """Each event as a line; a run that breaks off has that as its last one."""
    event: StreamEvent | None = first
    try:
        while event is not None:
            yield json.dumps({"type": event.type, "data": event.data}) + "\n"
            event = await anyio.to_thread.run_sync(next, events, None, abandon_on_cancel=True)
    except GatewayError as error:
        yield json.dumps({"type": "error", "data": {"message": error.message}}) + "\n"
    finally:
        # Whoever leaves ends the run; a thread that still waits for an event is woken.
        events.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    app.state.gateway_url = sys.argv[1]
    uvicorn.run(app, port=int(sys.argv[2]) if len(sys.argv) == 3 else 8080)
