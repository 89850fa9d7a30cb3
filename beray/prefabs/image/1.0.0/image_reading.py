"""Opening of image files, with limits on their size and without formats that execute code."""

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
_MAX_PIXELS = 100_000_000
"""Maximum number of pixels of an image or a frame."""
_MAX_TOTAL_PIXELS = 400_000_000
"""Maximum number of pixels of all frames together."""
_MAX_FRAMES = 2_000
_SWAPPED_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

# Pillow warns above this value and raises above twice this value. The lower limits of this module
# are checked as soon as an image is open.
Image.MAX_IMAGE_PIXELS = 2 * _MAX_PIXELS


class ImageInputError(InputError):
    """A file or a parameter is invalid. The message is shown to the caller."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image, and convert exceptions of Pillow also while the image is used.

    Raises:
        ImageInputError: The file is missing, not an image, damaged, or too large.
    """
    if file_size(path) == 0:
        raise ImageInputError(f"{path.name} is empty")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            _check_size(image, path.name)
            yield image
    except ImageInputError:
        raise
    except Image.DecompressionBombError:
        raise ImageInputError(f"{path.name} has more than {_MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageInputError(f"{path.name} {_unidentified_reason(path)}") from None
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise ImageInputError(f"{path.name} is damaged: {cause}") from None


def file_size(path: Path) -> int:
    """Return the size of a file in bytes; raise ImageInputError if it does not exist."""
    if not path.is_file():
        raise ImageInputError(f"{path.name} does not exist or is not a file")
    return path.stat().st_size


def _unidentified_reason(path: Path) -> str:
    """Return why Pillow does not open the file: another format, or a damaged header."""
    with path.open("rb") as file:
        start = file.read(12)
    for format, signature in _SIGNATURES:
        if re.match(signature, start, re.DOTALL):
            return f"is damaged: it has the signature of {format}, but its header is invalid"
    return f"is not an image in a supported format ({', '.join(_FORMATS)})"


def _check_size(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    size = f"{image.width:,} × {image.height:,} pixels"
    if pixels == 0:
        raise ImageInputError(f"{name} is damaged: its size is {size}")
    if pixels > _MAX_PIXELS:
        raise ImageInputError(f"{name} has {size}; the limit is {_MAX_PIXELS:,}")
    frames = frame_count(image)
    if frames > _MAX_FRAMES or frames * pixels > _MAX_TOTAL_PIXELS:
        limits = f"{_MAX_FRAMES:,} frames and {_MAX_TOTAL_PIXELS:,} pixels in all frames"
        raise ImageInputError(f"{name} has {frames:,} frames of {size}; the limits are {limits}")


def frame_count(image: Image.Image) -> int:
    """Return the number of frames or pages; for a damaged GIF, of those before the damage."""
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


def is_multi_frame(image: Image.Image) -> bool:
    """Return True if the image has, or may have had before truncation, several frames or pages."""
    # An MPO file is a photograph followed by smaller versions of it.
    return image.format == "GIF" or (frame_count(image) > 1 and image.format != "MPO")


def undamaged_frames(image: Image.Image, problems: list[str]) -> Iterator[Image.Image]:
    """Yield the frames up to the first damaged one, which is reported in ``problems``.

    Raises:
        Exception: The first frame is damaged. ``open_image`` converts it to ``ImageInputError``.
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
        # A GIF does not contain the number of its frames, but it has an end marker.
        complete = count == frame_count(image) and (image.format != "GIF" or _has_trailer(path))
    except Exception as error:
        cause = library_cause(error, __file__)
        if count == 0 or cause is None:
            raise
    if not complete:
        reason = f" ({cause})" if cause else ""
        problems.append(f"the image is damaged after frame {count:,}{reason}; the rest is missing")


def _has_trailer(path: Path) -> bool:
    """Return True if the trailer byte follows the last block of a GIF (GIF89a, section 27)."""
    with path.open("rb") as file:
        _, flags = struct.unpack("<10sB2x", file.read(13))
        file.seek(_colour_table_size(flags), io.SEEK_CUR)
        while (kind := file.read(1)) not in (b"", b";"):
            if kind == b",":
                _, flags = struct.unpack("<8sB", file.read(9))
                file.seek(_colour_table_size(flags) + 1, io.SEEK_CUR)
            elif kind == b"!":
                file.seek(1, io.SEEK_CUR)
            else:
                continue  # skip unknown bytes, as Pillow does
            while length := file.read(1):
                if length == b"\0":
                    break
                file.seek(length[0], io.SEEK_CUR)
    return kind == b";"


def _colour_table_size(flags: int) -> int:
    """Return the size of a colour table in bytes; 0 if ``flags`` indicate none."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def describe_image(image: Image.Image) -> dict[str, Any]:
    """Return the properties of an image for the result of ``info``."""
    problems: list[str] = []
    exif = image.getexif()
    width, height = image.size
    if exif.get(ExifTags.Base.Orientation) in _SWAPPED_ORIENTATIONS:
        width, height = height, width
    properties = {
        "format": "jpeg" if image.format == "MPO" else (image.format or "").lower(),
        "width": width,
        "height": height,
        "transparent": image.has_transparency_data,
        "has_place": bool(exif.get_ifd(ExifTags.IFD.GPSInfo)),
    }
    if is_multi_frame(image):
        properties["frames"] = sum(1 for _ in undamaged_frames(image, problems))
    else:
        properties["frames"] = frame_count(image)
    return properties | {"problems": problems}
