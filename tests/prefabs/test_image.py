"""Images: conversion, resizing and contact sheets."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("image")


def photo(path: Path, size: tuple[int, int] = (60, 40), orientation: int = 1, **more: Any) -> Path:
    """Write a photograph, red on the left and blue on the right, with EXIF orientation and place."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    image.save(path, exif=exif, **more)
    return path


def run(tmp_path: Path, function: str, *paths: Path, **parameters: Any) -> dict[str, Any]:
    """Call a function, and return its result."""
    return run_streaming(
        getattr(module, function)(make_call(tmp_path, images=paths), **parameters)
    )[0]


def run_one(
    tmp_path: Path, function: str, path: Path, **parameters: Any
) -> tuple[Image.Image, dict[str, Any]]:
    """Call a function with one image; return the output image and its result."""
    (result,) = run(tmp_path, function, path, **parameters)["images"]
    return Image.open(tmp_path / "outputs/images" / result["file"]), result


def near(colour: Any, expected: tuple[int, ...]) -> bool:
    """Return True if each level of a colour is close to the expected one."""
    return all(abs(level - other) < 12 for level, other in zip(colour, expected, strict=True))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif", "tiff"])
def test_each_format_is_written_and_read(tmp_path: Path, format: str) -> None:
    first, result = run_one(tmp_path, "convert", photo(tmp_path / "ä b.jpg"), format=format)
    assert (first.format or "").lower() == format
    assert result["file"].startswith("ä b.") and result["bytes"] > 0
    assert near(first.convert("RGB").getpixel((5, 5)), (254, 0, 0))
    again, _ = run_one(tmp_path, "convert", Path(str(first.filename)), format="png")  # type: ignore[attr-defined]
    assert again.size == (60, 40)


def test_the_output_is_upright_and_without_metadata(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", orientation=6)
    image, result = run_one(tmp_path, "convert", path, format="jpeg")
    assert image.size == (40, 60) == (result["width"], result["height"])
    assert near(image.getpixel((20, 5)), (254, 0, 0)) and near(
        image.getpixel((20, 55)), (0, 0, 254)
    )
    assert not image.getexif()
    kept, _ = run_one(tmp_path, "convert", path, format="jpeg", keep_metadata=True)
    assert kept.getexif()[ExifTags.Base.Make] == "Camera"
    assert ExifTags.Base.Orientation not in kept.getexif()
    (known,) = module.info(make_call(tmp_path, images=path))["images"]
    assert (known["width"], known["height"], known["has_place"], known["format"]) == (
        40,
        60,
        True,
        "jpeg",
    )


def test_transparency_is_kept_or_has_a_background(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    clear.save(path)
    kept = run_one(tmp_path, "convert", path, format="webp")[0].convert("RGBA")
    assert kept.getchannel("A").getpixel((1, 1)) == 0
    assert near(
        run_one(tmp_path, "convert", path, format="jpeg", background="#00ff00")[0].getpixel((1, 1)),
        (0, 255, 0),
    )
    clear.quantize().save(path)
    assert near(
        run_one(tmp_path, "convert", path, format="jpeg")[0].getpixel((1, 1)), (255, 255, 255)
    )
    Image.new("RGB", (10, 10), "red").save(path, transparency=(255, 0, 0))
    assert run_one(tmp_path, "resize", path, width=5)[0].convert("RGBA").getpixel((1, 1))[3] == 0  # type: ignore[index]
    with pytest.raises(
        ValueError, match="background: 'greenish' is not a colour; did you mean green"
    ):
        run(tmp_path, "convert", path, format="jpeg", background="greenish")


def test_16_bit_levels_are_kept_or_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("I;16", (8, 8), 0x8000).save(path)
    assert near([run_one(tmp_path, "convert", path, format="jpeg")[0].getpixel((1, 1))], (128,))
    assert run_one(tmp_path, "convert", path, format="tiff")[0].getpixel((1, 1)) == 0x8000
    assert run_one(tmp_path, "resize", path, width=4)[0].getpixel((1, 1)) == 0x8000


def test_a_colour_profile_is_applied_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (10, 10), (0, 255, 255, 0)).save(path)
    assert run_one(tmp_path, "convert", path, format="png")[0].mode == "RGB"
    for profile in (lab, b"broken"):
        Image.new("RGB", (10, 10), "red").save(path, icc_profile=profile)
        image, _ = run_one(tmp_path, "convert", path, format="png")
        assert near(image.getpixel((1, 1)), (255, 0, 0)) and "icc_profile" not in image.info


def test_animations_are_kept(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[50, 100, 200], loop=3)
    for format in ("webp", "gif", "png"):
        image, result = run_one(tmp_path, "convert", path, format=format)
        assert image.n_frames == 3 and not result["problems"]  # type: ignore[attr-defined]
    small, _ = run_one(tmp_path, "resize", path, width=10)
    assert (small.format, small.size, small.n_frames) == ("GIF", (10, 5), 3)  # type: ignore[attr-defined]
    assert run_one(tmp_path, "convert", path, format="jpeg")[1]["problems"] == [
        "only the first of 3 frames was written"
    ]


def test_pages_are_kept(tmp_path: Path) -> None:
    pages = [Image.new("L", (20, 10 * number), 9) for number in (1, 2)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    image, _ = run_one(tmp_path, "resize", tmp_path / "a.tiff", width=10)
    assert image.n_frames == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"width": 30}, (30, 20)),
        ({"height": 10}, (15, 10)),
        ({"width": 30, "height": 10}, (15, 10)),
        ({"width": 600}, (60, 40)),
        ({"width": 600, "upscale": True}, (600, 400)),
        ({"width": 20, "height": 20, "mode": "fill"}, (20, 20)),
        ({"width": 80, "height": 80, "mode": "fill"}, (40, 40)),
        ({"width": 80, "height": 80, "mode": "fill", "upscale": True}, (80, 80)),
        ({"width": 10, "height": 30, "mode": "exact"}, (10, 30)),
        ({"width": 100, "height": 30, "mode": "exact"}, (60, 30)),
        ({"width": 100, "height": 100, "mode": "exact", "upscale": True}, (100, 100)),
        ({"width": 1}, (1, 1)),
    ],
)
def test_sizes(tmp_path: Path, parameters: dict[str, Any], size: tuple[int, int]) -> None:
    image, result = run_one(tmp_path, "resize", photo(tmp_path / "a.jpg"), **parameters)
    assert image.size == size == (result["width"], result["height"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "width, height: at least one is required"),
        ({"width": 10, "mode": "fill"}, "mode fill requires both width and height"),
        (
            {"width": 20_000, "height": 20_000},
            "width, height: 20,000 × 20,000 pixels exceed the limit of 100,000,000",
        ),
        (
            {"width": 20_000, "upscale": True},
            "the result would have 20,000 × 13,333 pixels; the limit is 100,000,000",
        ),
        (
            {"width": 17_000, "height": 10, "mode": "exact", "upscale": True, "format": "webp"},
            "a.webp would have 17,000 × 10 pixels; webp supports at most 16,383 in width and height",
        ),
    ],
)
def test_invalid_sizes_are_rejected(
    tmp_path: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, "resize", photo(tmp_path / "a.jpg"), **parameters)
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


def huge_png(path: Path, width: int, height: int) -> Path:
    """Write a small PNG file whose header declares a large size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )
    return path


def test_large_images_are_rejected_before_they_are_unpacked(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^a\.png has 12,000 × 12,000 pixels; the limit is 100,000,000$"
    ):
        run(tmp_path, "convert", huge_png(tmp_path / "a.png", 12_000, 12_000), format="jpeg")
    with pytest.raises(ValueError, match=r"^b\.png has more than 100,000,000 pixels$"):
        run(tmp_path, "contact_sheet", huge_png(tmp_path / "b.png", 2_000_000, 2_000_000))


def test_images_with_too_many_frames_are_rejected(tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), number % 256) for number in range(2_001)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(
        ValueError, match=r"a\.gif has 2,001 frames of 2 × 2 pixels; the limits are 2,000 frames"
    ):
        run(tmp_path, "convert", tmp_path / "a.gif", format="webp")


def test_a_damaged_image_does_not_fail_the_others_and_leaves_no_file(tmp_path: Path) -> None:
    good = photo(tmp_path / "good.jpg", (300, 300))
    cut, fake, empty = tmp_path / "cut.jpg", tmp_path / "fake.png", tmp_path / "empty.gif"
    cut.write_bytes(good.read_bytes()[:-400])
    fake.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    empty.touch()
    call = make_call(tmp_path, images=[cut, good, fake, empty])
    result, content, progress = run_streaming(module.resize(call, width=10))
    assert (result["resized"], result["failed"]) == (1, 3)
    assert [each["problems"] for each in result["images"]] == [
        ["cut.jpg is damaged: image file is truncated (3 bytes not processed)"],
        [],
        ["fake.png is not an image in a supported format (PNG, JPEG, WEBP, GIF, TIFF, BMP)"],
        ["empty.gif is empty"],
    ]
    assert content == result["images"] and [each.fraction for each in progress] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert [path.name for path in (tmp_path / "outputs/images").iterdir()] == ["good.jpg"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_an_image_with_changed_bytes_yields_an_image_or_a_message(tmp_path: Path) -> None:
    for suffix in ("png", "gif", "webp", "tiff", "jpg", "bmp"):
        whole = photo(tmp_path / f"a.{suffix}").read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            path = tmp_path / f"b.{suffix}"
            path.write_bytes(whole[:place] + b"\xff\x00\x7f\xee" + whole[place + 4 :])
            try:
                run(tmp_path, "convert", path, format="png")
            except ValueError as error:
                assert f"b.{suffix}" in str(error) and str(tmp_path) not in str(error)


def test_a_contact_sheet(tmp_path: Path) -> None:
    paths = [
        photo(tmp_path / f"日本 {'long ' * 20}{number}.jpg", orientation=number)
        for number in (1, 6, 3)
    ]
    Image.new("I;16", (8, 8), 0x8000).save(tmp_path / "deep.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.tif")
    paths += [
        tmp_path / "deep.png",
        tmp_path / "print.tif",
        huge_png(tmp_path / "huge.png", 50_000, 50_000),
    ]
    call = make_call(tmp_path, images=paths)
    result, _, progress = run_streaming(module.contact_sheet(call, size=100, background="black"))
    assert (result["shown"], len(result["problems"]), len(progress)) == (5, 1, 7)
    with Image.open(tmp_path / "outputs/sheet" / result["file"]) as sheet:
        assert sheet.size == (result["width"], result["height"]) == (3 * 112 + 12, 2 * 134 + 12)
        assert near(sheet.getpixel((12 + 20, 12 + 50)), (254, 0, 0))
        assert len(sheet.crop((0, 112, 348, 146)).getcolors(100_000) or []) > 5  # captions
    assert run(tmp_path, "contact_sheet", *paths, columns=1, captions=False)["width"] == 264


def test_a_call_without_files_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images: at least one file is required"):
        run(tmp_path, "contact_sheet")
