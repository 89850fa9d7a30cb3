"""Images of which something could be lost: how they are turned, what they say, later frames."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageOps

from tests.prefabs.included import call_with, finished, prefab

module = prefab("image")

CORNERS = {"red": (0, 0), "lime": (32, 0), "blue": (0, 16), "white": (32, 16)}


def turned(path: Path, orientation: int) -> Path:
    """A photograph whose corners differ; seen upright, they are those of ``CORNERS``."""
    upright = Image.new("RGB", (64, 32))
    for colour, place in CORNERS.items():
        upright.paste(colour, (*place, place[0] + 32, place[1] + 16))
    exif = Image.Exif()
    # By which it is turned back: 6 and 8 undo each other, the others themselves.
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
    """The colours of the corners, as ``CORNERS`` has them."""
    across, down = image.width // 2, image.height // 2
    small = image.convert("RGB").resize((2, 2), Image.Resampling.BOX).load()
    assert small is not None and across > down
    found = []
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        bright = tuple(value > 128 for value in small[x, y])  # type: ignore[union-attr]
        found.append(
            {(1, 0, 0): "red", (0, 1, 0): "lime", (0, 0, 1): "blue", (1, 1, 1): "white"}[bright]  # type: ignore[index]
        )
    return found


def done(
    tmp_path: Path, function: str, path: Path, **parameters: Any
) -> tuple[Path, dict[str, Any]]:
    call = call_with(tmp_path, images=path)
    (told,) = finished(getattr(module, function)(call, **parameters))[0]["images"]
    return tmp_path / "outputs/images" / told["file"], told


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
def test_a_photograph_that_keeps_what_it_says_is_turned(
    tmp_path: Path, format: str, orientation: int
) -> None:
    path = turned(tmp_path / "a.jpg", orientation)
    file, told = done(tmp_path, "convert", path, format=format, keep_metadata=True)
    with Image.open(file) as image:
        assert image.size == (64, 32) == (told["width"], told["height"])
        assert corners(image) == list(CORNERS)
        exif = image.getexif()
        assert ExifTags.Base.Orientation not in exif
        assert exif[ExifTags.Base.Make] == "Camera"
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureProgram] == 2
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_where_it_gets_small(tmp_path: Path, orientation: int) -> None:
    path = turned(tmp_path / "a.jpg", orientation)
    file, _ = done(tmp_path, "resize", path, width=32)
    with Image.open(file) as image:
        assert image.size == (32, 16) and corners(image) == list(CORNERS)
    call = call_with(tmp_path, images=path)
    result = finished(module.contact_sheet(call, size=64, captions=False))[0]
    with Image.open(tmp_path / "outputs/sheet" / result["file"]) as sheet:
        assert corners(sheet.crop((12, 28, 76, 60))) == list(CORNERS)


def moving(path: Path) -> bytes:
    """Five frames that have nothing in common."""
    frames = [Image.frombytes("L", (40, 30), Random(seed).randbytes(1200)) for seed in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=70, loop=0)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["gif", "png"])
@pytest.mark.parametrize("format", ["gif", "webp", "png"])
def test_frames_before_a_cut_are_kept_and_the_cut_is_said(
    tmp_path: Path, suffix: str, format: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    whole = moving(path)
    seen = set()
    for end in range(len(whole) * 2 // 5, len(whole) - 1, max(1, len(whole) // 30)):
        path.write_bytes(whole[:end])
        file, told = done(tmp_path, "convert", path, format=format)
        (known,) = module.info(call_with(tmp_path, images=path))["images"]
        with Image.open(file) as image:
            count = getattr(image, "n_frames", 1)
        if suffix == "png" and end > len(whole) - 24:
            continue  # only the sums and the mark of the end are gone
        (said,) = told["problems"]
        assert said.startswith(f"it is damaged after frame {count}")
        assert said.endswith("; the rest is lost")
        assert known["problems"] == [said]
        assert known["frames"] == count
        assert done(tmp_path, "resize", path, width=20)[1]["problems"] == [said]
        seen.add(count)
    assert len(seen) >= 3


@pytest.mark.parametrize("cut", [1, 2])
def test_a_gif_cut_between_frames(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.gif"
    frames = moving(path).split(b"\0!\xf9\x04")  # where each frame begins
    path.write_bytes(b"\0!\xf9\x04".join(frames[: cut + 1]) + b"\0")
    said = [f"it is damaged after frame {cut}; the rest is lost"]
    assert done(tmp_path, "convert", path, format="webp")[1]["problems"] == said
    (known,) = module.info(call_with(tmp_path, images=path))["images"]
    assert (known["frames"], known["problems"]) == (cut, said)


def test_a_webp_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(moving(path)[:-100])
    with pytest.raises(ValueError, match=r"^a\.webp is damaged: could not create decoder object$"):
        done(tmp_path, "convert", path, format="gif")
    (known,) = module.info(call_with(tmp_path, images=path))["images"]
    assert (known["frames"], known["problems"]) == (
        None,
        ["a.webp is damaged: could not create decoder object"],
    )


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_whole_ones_have_no_problems_and_their_pace(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    moving(path)
    file, told = done(tmp_path, "convert", path, format="gif")
    assert told["problems"] == []
    assert module.info(call_with(tmp_path, images=path))["images"][0]["problems"] == []
    with Image.open(file) as image:
        assert image.n_frames == 5  # type: ignore[attr-defined]
        image.seek(1)
        assert image.info["duration"] == 70
