"""Image files, opened with care: nothing of a size that cannot be, and no format that runs code."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_MOST_PIXELS = 100_000_000
_MOST_PIXELS_OF_ALL_FRAMES = 400_000_000
_MOST_FRAMES = 2_000
_TURNED = (5, 6, 7, 8)
"""The orientations of EXIF that swap width and height."""

# The limits here are lower than Pillow's own, and they raise instead of warning.
Image.MAX_IMAGE_PIXELS = 2 * _MOST_PIXELS
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError),
    *(struct.error, OverflowError, ZeroDivisionError),
)
"""What Pillow raises, of files that are no images or damaged ones."""


class Unreadable(ValueError):
    """The image cannot be read or written; the text says why, to whoever gave it."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image; what goes wrong with it while it is used is told as ``Unreadable``.

    Raises:
        Unreadable: it is no image, damaged, or larger than can be.
    """
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty")
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")
            _check_size(image, path.name)
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"{path.name} is larger than {_MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable(f"{path.name} is no image of a kind that is read here") from None
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not of the image: of the disk
        raise Unreadable(f"{path.name} is damaged") from None


def _check_size(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if pixels > _MOST_PIXELS:
        said = f"{name} has {image.width:,} × {image.height:,} pixels"
        raise Unreadable(f"{said}; {_MOST_PIXELS:,} are read")
    frames = frames_of(image)
    if frames > _MOST_FRAMES or frames * pixels > _MOST_PIXELS_OF_ALL_FRAMES:
        raise Unreadable(f"{name} has {frames:,} frames, too many for their size")


def frames_of(image: Image.Image) -> int:
    """How many frames or pages it has."""
    return int(getattr(image, "n_frames", 1))


def described(image: Image.Image) -> dict[str, Any]:
    """What ``info`` tells of it."""
    exif = image.getexif()
    width, height = image.size
    if exif.get(ExifTags.Base.Orientation) in _TURNED:
        width, height = height, width
    return {
        "format": "jpeg" if image.format == "MPO" else (image.format or "").lower(),
        "width": width,
        "height": height,
        "frames": frames_of(image),
        "transparent": image.has_transparency_data,
        "has_place": bool(exif.get_ifd(ExifTags.IFD.GPSInfo)),
    }
