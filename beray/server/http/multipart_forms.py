"""Forms with a file in them, which is given on as it arrives, not kept.

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
    """A form with one file among its parts.

    Attributes:
        fields: what stands before the file; once ``content`` has ended, all of them.
        filename: as the client names it.
        content_type: of the file, as the client names it.
        size: bytes of the file that have arrived.
    """

    def __init__(self, request: Request, most_bytes: int) -> None:
        kind, options = parse_options_header(request.headers.get("Content-Type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise _invalid("the body has to be multipart/form-data, with a boundary")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.content_type: str | None = None
        self.size = 0
        self._most_bytes = most_bytes
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
        except FormParserError as error:
            raise _invalid(str(error)) from None

    async def begin(self) -> None:
        """Read up to the file.

        Raises:
            GatewayHTTPError: the form is none, or has none.
        """
        while self.filename is None:
            if not await self._read():
                raise _invalid(f"the form has no file {FILE_FIELD!r}")

    async def content(self) -> AsyncIterator[bytes]:
        """The file. Once it ends, the form has ended as well, with the fields behind the file.

        Raises:
            GatewayHTTPError: it is too large, or was cut off, or is not the only one.
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
            raise _invalid("the form is damaged") from None
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
            raise _invalid("the form has more than one file")
        if name == FILE_FIELD and b"filename" in options:
            self.filename = _filename(_text(options[b"filename"]))
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1") or None
        elif b"filename" in options or not name:
            raise _invalid(f"a file has to be called {FILE_FIELD!r}, and a field to have a name")
        elif len(self.fields) == MAX_FIELDS:
            raise _invalid(f"the form has more than {MAX_FIELDS} fields")
        else:
            self._field = name
            self._value = bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.size += end - start
            if self.size > self._most_bytes:
                raise file_too_large(self._most_bytes)
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
    return GatewayHTTPError(400, "CUT_OFF", "The upload was cut off; nothing was kept.")


def file_too_large(most_bytes: int) -> GatewayHTTPError:
    return GatewayHTTPError(413, "TOO_LARGE", f"A file has {most_bytes} bytes at most.")


def _filename(said: str) -> str:
    """As it was before the form: three characters are escaped there, and no others.

    Source: WHATWG HTML, multipart/form-data encoding algorithm.
    """
    return said.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _invalid("a name or a field of the form is not UTF-8") from None


def _invalid(problem: str) -> GatewayHTTPError:
    return invalid_input([InputProblem(("body",), problem)])
