"""Encoding of arbitrary file names as valid Unicode: injective, and identity for valid names."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from beray.transfers import local_names
from beray.transfers.wire_names import ESCAPE, decode, encode, to_wire_name

# Parts that are ambiguous for the encoding, and ordinary ones.
PIECES = [
    b"a", b"E9", b"E2", b"90", b"A6", b"8", b"F", b"/", b".", b" ", b"%", b"\\", b"\xe9", b"\xff", b"\x80",
    b"\xe2", b"\x90", b"\xa6", b"\xed\xa0\x80", b"\xf5", ESCAPE.encode(), "é".encode(), "日本".encode(),
    "\U0001f600".encode(), "\u0301".encode(), b"\n", b"\x7f", b"\x1b",
]  # fmt: skip
NAMES = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=40)
BYTES = NAMES.map(lambda name: name.replace(b"\0", b""))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(BYTES)
def test_every_name_survives_a_round_trip(name: bytes) -> None:
    wire = encode(name, any_bytes=True)
    assert decode(wire, any_bytes=True) == name
    assert encode(decode(wire, any_bytes=True), any_bytes=True) == wire


@given(st.lists(BYTES, min_size=2, max_size=6, unique=True))
def test_different_names_have_different_wire_names(names: list[bytes]) -> None:
    assert len({encode(name, any_bytes=True) for name in names}) == len(names)


@given(TEXTS.filter(lambda text: ESCAPE not in text))
def test_a_name_without_the_escape_is_unchanged(text: str) -> None:
    assert encode(text.encode(), any_bytes=True) == text
    assert decode(text, any_bytes=True) == text.encode()
    assert to_wire_name(text) == text


@given(BYTES)
def test_it_passes_through_json_urls_and_zip(name: bytes) -> None:
    wire = encode(name, any_bytes=True)
    assert json.loads(json.dumps(wire, ensure_ascii=False).encode()) == wire
    request = requests.Request("GET", "http://x/", params={"path": f"{wire}."}).prepare()
    assert parse_qs(urlsplit(str(request.url)).query) == {"path": [f"{wire}."]}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{wire}.", b"")
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [f"{wire}."]
        (info,) = archive.infolist()
        assert info.orig_filename == f"{wire}."


@given(BYTES)
def test_the_parts_of_a_path_are_preserved(path: bytes) -> None:
    wire = encode(path, any_bytes=True)
    assert [decode(part, any_bytes=True) for part in wire.split("/")] == path.split(b"/")


@given(TEXTS)
def test_no_escape_is_a_separator_or_a_dot(text: str) -> None:
    on_disk = decode(text, any_bytes=True)
    for special in b"/.\0":
        assert on_disk.count(special) == text.count(chr(special))


@given(BYTES)
def test_a_name_listed_by_python_is_accepted(name: bytes) -> None:
    listed = name.decode("utf-8", "surrogateescape")
    if ESCAPE not in listed:
        assert to_wire_name(listed) == encode(name, any_bytes=True)
    wire = encode(name, any_bytes=True)
    assert to_wire_name(wire) == wire


@given(BYTES)
def test_wire_names_are_kept_where_names_are_unicode(name: bytes) -> None:
    wire = encode(name, any_bytes=True)
    on_disk = decode(wire, any_bytes=False)
    assert on_disk.decode() == wire
    assert encode(on_disk, any_bytes=False) == wire


def test_a_lone_surrogate_of_windows_has_a_wire_name() -> None:
    assert encode("a\ud800".encode("utf-8", "surrogatepass"), any_bytes=False) == "a␦ED␦A0␦80"


@pytest.mark.parametrize(
    ("name", "wire"),
    [(b"caf\xe9.txt", "caf␦E9.txt"), ("␦".encode(), "␦"), ("␦e9 ␦7F ␦".encode(), "␦e9 ␦7F ␦"),
     ("␦E9".encode(), "␦E2␦90␦A6E9"), ("␦".encode() + b"\xe9", "␦␦E9")],
)  # fmt: skip
def test_what_is_escaped(name: bytes, wire: str) -> None:
    assert encode(name, any_bytes=True) == wire


def test_the_escape_survives_normalization_and_is_shown() -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unicodedata.normalize(form, ESCAPE) == ESCAPE
    assert ESCAPE.casefold() == ESCAPE.upper() == ESCAPE
    assert ESCAPE.isprintable()


def test_the_length_of_a_name_is_its_length_on_disk() -> None:
    longest = encode(b"\xff" * 255, any_bytes=True)
    assert local_names.name_problem(longest, "linux") is None
    assert local_names.name_problem(longest, "macos") is not None
    assert local_names.name_problem(longest + "x", "linux") is not None


def test_two_wire_names_of_one_file_are_the_same_file() -> None:
    known = local_names.LocalNames("linux")
    assert known.add("é", is_directory=False) is None
    assert known.add("␦C3␦A9", is_directory=False) is not None
    other = local_names.LocalNames("windows")
    assert other.add("é", is_directory=False) is None
    assert other.add("␦C3␦A9", is_directory=False) is None
