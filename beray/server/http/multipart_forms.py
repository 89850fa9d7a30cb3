"""Streaming parser of multipart forms with one file, which is passed on as it arrives.

Source: RFC 7578 (multipart/form-data).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from beray.server.http.gateway_errors import GatewayHTTPError, invalid_input
from beray.server.http.validation_errors import InputProblem

FILE_FIELD: Final = "file"
MAX_FIELDS: Final = 20
MAX_FIELD_BYTES: Final = 4096


class UploadForm:
    """A multipart form with one file among its parts.

    Args:
        request: Request whose body is the form.
        max_bytes: Maximum size of the file.

    Attributes:
        fields: Fields before the file; after ``content`` has ended, all fields.
        filename: Name of the file, as sent by the client.
        content_type: Media type of the file, as sent by the client.
        size: Number of bytes of the file that have arrived.

    Raises:
        GatewayHTTPError: 422, the body is not a multipart form.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        kind, options = parse_options_header(request.headers.get("Content-Type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise _invalid("expects multipart/form-data with a boundary in Content-Type")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.content_type: str | None = None
        self.size = 0
        self._max_bytes = max_bytes
        self._stream = aiter(request.stream())
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._field: str | None = None
        self._value = bytearray()
        self._arrived: list[bytes] = []
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _invalid("the boundary in Content-Type is too long") from None

    async def read_to_file(self) -> None:
        """Read the form up to the content of the file.

        Raises:
            GatewayHTTPError: 422, the form is malformed or has no file; 400, it was interrupted.
        """
        while self.filename is None:
            if not await self._read():
                raise _invalid(f"the form has no file in the field {FILE_FIELD!r}")

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the file, and read the form to its end.

        Raises:
            GatewayHTTPError: 413, the file is too large; 400, the upload was interrupted; 422,
                the form is malformed or has another file.
        """
        while True:
            arrived, self._arrived = self._arrived, []
            for block in arrived:
                yield block
            if not await self._read():
                break
        if not self._ended:
            raise upload_interrupted()

    async def _read(self) -> bool:
        try:
            block = await anext(self._stream, None)
            if block is not None:
                self._parser.write(block)
        except ClientDisconnect:
            raise upload_interrupted() from None
        except FormParserError:
            raise _invalid("the form is malformed") from None
        return block is not None

    def _begin_part(self) -> None:
        self._headers = {}
        self._field = None

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = _text(options.get(b"name", b""))
        if self.filename is not None and b"filename" in options:
            raise _invalid("the form has more than one file; send them in separate requests")
        if name == FILE_FIELD and b"filename" in options:
            self.filename = _filename(_text(options[b"filename"]))
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1") or None
        elif b"filename" in options or not name:
            raise _invalid(
                f"the file has to be in the field {FILE_FIELD!r}, and each field needs a name"
            )
        elif len(self.fields) == MAX_FIELDS:
            raise _invalid(f"the form has more than {MAX_FIELDS} fields")
        else:
            self._field = name
            self._value = bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.size += end - start
            if self.size > self._max_bytes:
                raise file_too_large(self._max_bytes)
            self._arrived.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise _invalid(f"a field of the form has more than {MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._field is not None:
            self.fields[self._field] = _text(bytes(self._value))

    def _end(self) -> None:
        self._ended = True


def upload_interrupted() -> GatewayHTTPError:
    """Return the 400 for a body that ended too early."""
    return GatewayHTTPError(
        400, "CUT_OFF", "The upload was interrupted, and nothing was stored. Send it again."
    )


def file_too_large(max_bytes: int) -> GatewayHTTPError:
    """Return the 413 for a file of more than ``max_bytes``."""
    return GatewayHTTPError(
        413, "TOO_LARGE", f"The file is too large; this server's limit is {max_bytes:,} bytes."
    )


def _filename(encoded: str) -> str:
    """Return a file name without the escapes of three characters that forms require.

    Source: WHATWG HTML, multipart/form-data encoding algorithm.
    """
    return encoded.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _invalid("a name or a value of the form is not UTF-8") from None


def _invalid(problem: str) -> GatewayHTTPError:
    return invalid_input([InputProblem(("body",), problem)])
