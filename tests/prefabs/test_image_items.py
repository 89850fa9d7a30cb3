"""Invalid images among valid ones: each is reported with its cause, and the others are processed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beray.prefab import InputError
from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("image")
FUNCTIONS: dict[str, dict[str, Any]] = {
    "convert": {"format": "png"},
    "resize": {"width": 5},
    "contact_sheet": {},
    "info": {},
}


def saved(format: str, size: tuple[int, int] = (40, 30), frames: int = 1, **more: Any) -> bytes:
    """Return an image file with noise."""
    images = [Image.effect_noise(size, 50 + number).convert("RGB") for number in range(frames)]
    if frames > 1:
        more |= {"save_all": True, "append_images": images[1:]}
    buffer = io.BytesIO()
    images[0].save(buffer, format, **more)
    return buffer.getvalue()


def gif_with_canvas(width: int, height: int, frames: int = 1) -> bytes:
    """Return a GIF with frames of 40 × 30 pixels whose header declares another size."""
    data = bytearray(saved("GIF", frames=frames))
    struct.pack_into("<HH", data, 6, width, height)
    return bytes(data)


def gif_with_large_frame() -> bytes:
    """Return a GIF whose second frame is outside of its canvas."""
    data = bytearray(saved("GIF", frames=2))
    at = data.rindex(struct.pack("<cHHHH", b",", 0, 0, 40, 30))
    struct.pack_into("<HHHH", data, at + 1, 100, 100, 40, 30)
    return bytes(data)


def png(width: int, height: int) -> bytes:
    """Return a small PNG whose header declares a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def broken_webp() -> bytes:
    """Return a WebP with three frames, the second of which is damaged."""
    data = bytearray(saved("WEBP", frames=3))
    at = data.find(b"VP8", data.find(b"ANMF", data.find(b"ANMF") + 4))
    data[at + 8 : at + 40] = bytes(32)
    return bytes(data)


ITEMS: list[tuple[str, Callable[[], bytes], str]] = [
    ("cut.jpg", lambda: saved("JPEG")[:-300], "is damaged: image file is truncated"),
    ("bomb.png", lambda: png(2_000_000, 2_000_000), "has more than 100,000,000 pixels"),
    (
        "large.png",
        lambda: png(12_000, 12_000),
        "has 12,000 × 12,000 pixels; the limit is 100,000,000",
    ),
    ("zero.png", lambda: png(0, 10), "is damaged: "),
    ("zero.bmp", lambda: saved("BMP").replace(struct.pack("<ii", 40, 30), bytes(8)), "is damaged"),
    ("head.png", lambda: saved("PNG")[:20], "is damaged"),
    ("sums.png", lambda: saved("PNG").replace(b"IHDR", b"IHDX"), "is damaged"),
    ("text.gif", lambda: b"GIF8 is not an image\n", "is not an image in a supported format"),
    ("text.png", lambda: b"hello", "is not an image in a supported format"),
    ("cut.webp", lambda: saved("WEBP")[:60], "is damaged"),
    ("cut.tif", lambda: saved("TIFF")[:200], "is damaged"),
    ("empty.gif", lambda: b"", "is empty"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("name", "data", "reason"), ITEMS, ids=[name for name, *_ in ITEMS])
def test_an_invalid_image_is_reported_and_the_others_are_processed(
    tmp_path: Path, name: str, data: Callable[[], bytes], reason: str, function: str
) -> None:
    bad, good = tmp_path / name, tmp_path / "good.png"
    bad.write_bytes(data())
    good.write_bytes(saved("PNG"))
    needs_pixels = ("cut.jpg", "cut.webp", "cut.tif", "sums.png", "zero.bmp")
    problems, processed = problems_and_successes(tmp_path, function, [bad, good])
    assert processed == (1 if problems else 2)
    assert problems or (function == "info" and name in needs_pixels)
    assert all(f"{name} {reason}" in problem for problem in problems)


def problems_and_successes(
    tmp_path: Path, function: str, paths: list[Path]
) -> tuple[list[str], int]:
    """Call a function; return all problems and the number of images without problems."""
    returned = getattr(module, function)(make_call(tmp_path, images=paths), **FUNCTIONS[function])
    result = returned if function == "info" else run_streaming(returned)[0]
    if function == "contact_sheet":
        return result["problems"], result["shown"]
    found = [each["problems"] for each in result["images"]]
    return [problem for problems in found for problem in problems], found.count([])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "data",
    [
        gif_with_canvas(4, 4),
        gif_with_canvas(4, 4, frames=3),
        gif_with_canvas(0, 0),
        gif_with_canvas(65_535, 2),
        gif_with_large_frame(),
        broken_webp(),
        saved("GIF", frames=3)[:-900],
        saved("PNG", frames=3)[:-900],
    ],
    ids=["small", "small of three", "none", "wide", "outside", "webp", "gif cut", "png cut"],
)
def test_invalid_frames_do_not_fail_other_images(
    tmp_path: Path, data: bytes, function: str
) -> None:
    bad, good = tmp_path / "bad.img", tmp_path / "good.png"
    bad.write_bytes(data)
    good.write_bytes(saved("PNG"))
    _, processed = problems_and_successes(tmp_path, function, [bad, good, bad])
    assert processed >= 1


def test_a_call_fails_with_the_reasons_if_every_image_is_invalid(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        path.write_bytes(b"hello")
    for function in ("convert", "resize", "contact_sheet"):
        with pytest.raises(InputError, match=r"^0\.png is not an image .*; and 2 more$"):
            problems_and_successes(tmp_path, function, paths)
    (known,) = module.info(make_call(tmp_path, images=tmp_path / "gone.png"))["images"]
    assert known["problems"] == ["gone.png does not exist or is not a file"]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"background": "whit"}, "background: 'whit' is not a colour; did you mean white"),
        ({"background": "#12"}, "background: '#12' is not a colour; use a name or #rrggbb"),
    ],
)
def test_invalid_parameters_are_rejected(
    tmp_path: Path, parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        run_streaming(module.convert(make_call(tmp_path, images=[]), format="jpeg", **parameters))
