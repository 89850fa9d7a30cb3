"""Orientation, metadata and frames of images are kept, and lost frames are reported."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageOps

from tests.prefabs.included import make_call, prefab, run_streaming

module = prefab("image")

CORNERS = {"red": (0, 0), "lime": (32, 0), "blue": (0, 16), "white": (32, 16)}


def rotated_photo(path: Path, orientation: int) -> Path:
    """Write a photograph that has the corners of ``CORNERS`` when it is shown upright."""
    upright = Image.new("RGB", (64, 32))
    for colour, place in CORNERS.items():
        upright.paste(colour, (*place, place[0] + 32, place[1] + 16))
    exif = Image.Exif()
    # The inverse orientation: 6 and 8 are inverse to each other, all others to themselves.
    exif[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(orientation, orientation)
    as_taken = upright.copy()
    as_taken.getexif().load(exif.tobytes())
    as_taken = ImageOps.exif_transpose(as_taken)
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureProgram] = 2
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    as_taken.save(path, exif=exif, quality=95)
    return path


def corners(image: Image.Image) -> list[str]:
    """Return the colours of the corners in the order of ``CORNERS``."""
    half_width, half_height = image.width // 2, image.height // 2
    small = image.convert("RGB").resize((2, 2), Image.Resampling.BOX).load()
    assert small is not None and half_width > half_height
    found = []
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        bright = tuple(value > 128 for value in small[x, y])  # type: ignore[union-attr]
        found.append(
            {(1, 0, 0): "red", (0, 1, 0): "lime", (0, 0, 1): "blue", (1, 1, 1): "white"}[bright]  # type: ignore[index]
        )
    return found


def run_one(
    tmp_path: Path, function: str, path: Path, **parameters: Any
) -> tuple[Path, dict[str, Any]]:
    """Call a function with one image; return its output file and its result."""
    call = make_call(tmp_path, images=path)
    (result,) = run_streaming(getattr(module, function)(call, **parameters))[0]["images"]
    return tmp_path / "outputs/images" / result["file"], result


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
def test_a_photograph_with_kept_metadata_is_upright(
    tmp_path: Path, format: str, orientation: int
) -> None:
    path = rotated_photo(tmp_path / "a.jpg", orientation)
    file, result = run_one(tmp_path, "convert", path, format=format, keep_metadata=True)
    with Image.open(file) as image:
        assert image.size == (64, 32) == (result["width"], result["height"])
        assert corners(image) == list(CORNERS)
        exif = image.getexif()
        assert ExifTags.Base.Orientation not in exif
        assert exif[ExifTags.Base.Make] == "Camera"
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureProgram] == 2
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_resized_images_and_thumbnails_are_upright(tmp_path: Path, orientation: int) -> None:
    path = rotated_photo(tmp_path / "a.jpg", orientation)
    file, _ = run_one(tmp_path, "resize", path, width=32)
    with Image.open(file) as image:
        assert image.size == (32, 16) and corners(image) == list(CORNERS)
    call = make_call(tmp_path, images=path)
    result = run_streaming(module.contact_sheet(call, size=64, captions=False))[0]
    with Image.open(tmp_path / "outputs/sheet" / result["file"]) as sheet:
        assert corners(sheet.crop((12, 28, 76, 60))) == list(CORNERS)


def animation(path: Path) -> bytes:
    """Write an animation of five unrelated frames."""
    frames = [Image.frombytes("L", (40, 30), Random(seed).randbytes(1200)) for seed in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=70, loop=0)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["gif", "png"])
@pytest.mark.parametrize("format", ["gif", "webp", "png"])
def test_frames_before_a_truncation_are_kept_and_reported(
    tmp_path: Path, suffix: str, format: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    whole = animation(path)
    seen = set()
    for end in range(len(whole) * 2 // 5, len(whole) - 1, max(1, len(whole) // 30)):
        path.write_bytes(whole[:end])
        file, result = run_one(tmp_path, "convert", path, format=format)
        (known,) = module.info(make_call(tmp_path, images=path))["images"]
        with Image.open(file) as image:
            count = getattr(image, "n_frames", 1)
        if suffix == "png" and end > len(whole) - 24:
            continue  # only checksums and the end marker are missing
        (problem,) = result["problems"]
        assert problem.startswith(f"the image is damaged after frame {count}")
        assert problem.endswith("; the rest is missing")
        assert known["problems"] == [problem]
        assert known["frames"] == count
        assert run_one(tmp_path, "resize", path, width=20)[1]["problems"] == [problem]
        seen.add(count)
    assert len(seen) >= 3


@pytest.mark.parametrize("cut", [1, 2])
def test_a_gif_truncated_between_frames(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.gif"
    frames = animation(path).split(b"\0!\xf9\x04")  # where each frame begins
    path.write_bytes(b"\0!\xf9\x04".join(frames[: cut + 1]) + b"\0")
    problems = [f"the image is damaged after frame {cut}; the rest is missing"]
    assert run_one(tmp_path, "convert", path, format="webp")[1]["problems"] == problems
    (known,) = module.info(make_call(tmp_path, images=path))["images"]
    assert (known["frames"], known["problems"]) == (cut, problems)


def test_a_truncated_webp_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(animation(path)[:-100])
    with pytest.raises(ValueError, match=r"^a\.webp is damaged: could not create decoder object$"):
        run_one(tmp_path, "convert", path, format="gif")
    (known,) = module.info(make_call(tmp_path, images=path))["images"]
    assert (known["frames"], known["problems"]) == (
        None,
        ["a.webp is damaged: could not create decoder object"],
    )


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_complete_animations_have_no_problems_and_keep_their_durations(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    animation(path)
    file, result = run_one(tmp_path, "convert", path, format="gif")
    assert result["problems"] == []
    assert module.info(make_call(tmp_path, images=path))["images"][0]["problems"] == []
    with Image.open(file) as image:
        assert image.n_frames == 5  # type: ignore[attr-defined]
        image.seek(1)
        assert image.info["duration"] == 70
