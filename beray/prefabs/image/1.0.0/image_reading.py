"""Image files, opened with care: nothing of a size that cannot be, and no format that runs code."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageSequence, UnidentifiedImageError

from beray.prefab import InputError, library_cause

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_SIGNATURES = (
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("JPEG", rb"\xff\xd8\xff"),
    ("WebP", rb"RIFF....WEBP"),
    ("GIF", rb"GIF8[79]a"),
    ("TIFF", rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    ("BMP", rb"BM"),
)
_MOST_PIXELS = 100_000_000
_MOST_PIXELS_OF_ALL_FRAMES = 400_000_000
_MOST_FRAMES = 2_000
_TURNED = (5, 6, 7, 8)
"""The orientations of EXIF that swap width and height."""

# The limits here are lower than Pillow's own, and they raise instead of warning.
Image.MAX_IMAGE_PIXELS = 2 * _MOST_PIXELS


class BadInput(InputError):
    """A file or a parameter cannot be used. The text is shown to the caller."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image. Errors of Pillow while the image is used are raised as ``BadInput``, too.

    Raises:
        BadInput: The file is missing, not an image, damaged, or too large.
    """
    if size_of(path) == 0:
        raise BadInput(f"{path.name} is empty")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            _check_size(image, path.name)
            yield image
    except BadInput:
        raise
    except Image.DecompressionBombError:
        raise BadInput(f"{path.name} has more than {_MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path.name} {_unidentified(path)}") from None
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise BadInput(f"{path.name} is damaged: {cause}") from None


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; raise BadInput if there is no such file."""
    if not path.is_file():
        raise BadInput(f"{path.name} does not exist or is not a file")
    return path.stat().st_size


def _unidentified(path: Path) -> str:
    """Return why Pillow does not open the file: another format, or a damaged header."""
    with path.open("rb") as file:
        start = file.read(12)
    for format, signature in _SIGNATURES:
        if re.match(signature, start, re.DOTALL):
            return f"is damaged: it starts as {format} does, but its header is invalid"
    return f"is not an image in a supported format ({', '.join(_FORMATS)})"


def _check_size(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise BadInput(f"{name} is damaged: its size is {image.width:,} × {image.height:,} pixels")
    if pixels > _MOST_PIXELS:
        said = f"{name} has {image.width:,} × {image.height:,} pixels"
        raise BadInput(f"{said}; {_MOST_PIXELS:,} are read")
    frames = frames_of(image)
    if frames > _MOST_FRAMES or frames * pixels > _MOST_PIXELS_OF_ALL_FRAMES:
        raise BadInput(f"{name} has {frames:,} frames, too many for their size")


def frames_of(image: Image.Image) -> int:
    """Return the number of frames or pages, of a damaged GIF those before the damage."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:
        if library_cause(error, __file__) is None:
            raise
    found = 0
    try:
        for _ in ImageSequence.Iterator(image):
            found += 1
    except Exception as error:
        if found == 0 or library_cause(error, __file__) is None:
            raise
    image.seek(0)
    return found


def has_more(image: Image.Image) -> bool:
    """Whether it has more frames or pages than one, or had before it was cut."""
    # An MPO is a photograph, with smaller ones of the same beside it.
    return image.format == "GIF" or (frames_of(image) > 1 and image.format != "MPO")


def whole_frames(image: Image.Image, problems: list[str]) -> Iterator[Image.Image]:
    """Yield the frames up to the first damaged one, which is reported in ``problems``.

    Raises:
        Exception: The first frame is damaged. ``opened`` makes it ``BadInput``.
    """
    path = Path(str(getattr(image, "filename", "")))
    count = 0
    complete = False
    cause = None
    try:
        for frame in ImageSequence.Iterator(image):
            frame.load()
            count += 1
            yield frame
        # A GIF does not say how many frames it has, but it says its end.
        complete = count == frames_of(image) and (image.format != "GIF" or _ended(path))
    except Exception as error:
        cause = library_cause(error, __file__)
        if count == 0 or cause is None:
            raise
    if not complete:
        reason = f" ({cause})" if cause else ""
        problems.append(f"it is damaged after frame {count:,}{reason}; the rest is lost")


def _ended(path: Path) -> bool:
    """Whether a GIF has, behind all of its blocks, the byte that ends it (GIF89a, 27)."""
    with path.open("rb") as file:
        _, flags = struct.unpack("<10sB2x", file.read(13))
        file.seek(_colours(flags), io.SEEK_CUR)
        while (kind := file.read(1)) not in (b"", b";"):
            if kind == b",":
                _, flags = struct.unpack("<8sB", file.read(9))
                file.seek(_colours(flags) + 1, io.SEEK_CUR)
            elif kind == b"!":
                file.seek(1, io.SEEK_CUR)
            else:
                continue  # Pillow skips what is no block, too
            while length := file.read(1):
                if length == b"\0":
                    break
                file.seek(length[0], io.SEEK_CUR)
    return kind == b";"


def _colours(flags: int) -> int:
    """The bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def described(image: Image.Image) -> dict[str, Any]:
    """What ``info`` tells of it."""
    problems: list[str] = []
    exif = image.getexif()
    width, height = image.size
    if exif.get(ExifTags.Base.Orientation) in _TURNED:
        width, height = height, width
    known = {
        "format": "jpeg" if image.format == "MPO" else (image.format or "").lower(),
        "width": width,
        "height": height,
        "transparent": image.has_transparency_data,
        "has_place": bool(exif.get_ifd(ExifTags.IFD.GPSInfo)),
    }
    many = has_more(image)
    known["frames"] = sum(1 for _ in whole_frames(image, problems)) if many else frames_of(image)
    return known | {"problems": problems}
