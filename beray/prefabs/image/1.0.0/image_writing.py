"""Images as files: turned upright, in sRGB, without metadata, in what their format can hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, Literal

from PIL import ExifTags, Image, ImageColor

from image_colours import upright
from image_reading import BadInput, frames_of, has_more, whole_frames
from image_sizes import Size

Format = Literal["png", "jpeg", "webp", "gif", "tiff"]
Colour = tuple[int, int, int]

_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif", "tiff": "tif"}
_MOVING = ("png", "webp", "gif")
_LARGEST = {"jpeg": 65_500, "webp": 16_383, "gif": 65_535}
_LONGEST_STEM = 120
_UNWANTED = re.compile("[\x00-\x1f\x7f/\\\\\ud800-\udfff]")


@dataclass(frozen=True)
class Wishes:
    """How images are written."""

    quality: int = 85
    lossless: bool = False
    background: Colour = (255, 255, 255)
    keep_metadata: bool = False


class Names:
    """Names of output files, each once, also where case makes no difference."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, stem: str, format: Format) -> str:
        """A name like ``stem.jpg``."""
        base = _UNWANTED.sub("", stem)[:_LONGEST_STEM].strip() or "image"
        for number in count(1):
            name = f"{base}{f'-{number}' if number > 1 else ''}.{_SUFFIXES[format]}"
            if name.casefold() not in self._taken:
                break
        self._taken.add(name.casefold())
        return name


def colour(text: str) -> Colour:
    """Return a colour's red, green and blue levels.

    Raises:
        BadInput: ``text`` is not a colour.
    """
    try:
        red, green, blue, *_ = ImageColor.getcolor(text, "RGBA")  # type: ignore[misc]
    except ValueError:
        similar = get_close_matches(text.lower(), ImageColor.colormap, 3)
        hint = f"did you mean {', '.join(similar)}?" if similar else "use a name or #rrggbb"
        raise BadInput(f"background: {text!r} is not a colour; {hint}") from None
    return red, green, blue


def format_of(image: Image.Image) -> Format:
    """What an image is written as that keeps its format."""
    known: dict[str, Format] = {"JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "GIF": "gif"}
    return "tiff" if image.format == "TIFF" else known.get(image.format or "", "png")


def write(
    image: Image.Image, path: Path, format: Format, wishes: Wishes, size: Size | None
) -> tuple[int, int, list[str]]:
    """Write the image; its width, its height, and what is not in the file.

    Raises:
        BadInput: the format cannot hold it.
        OSError: it is damaged.
    """
    problems: list[str] = []
    frames = frames_of(image)
    moving = image.format in ("GIF", "WEBP", "PNG") and format in _MOVING
    several = has_more(image) and (moving or (image.format == "TIFF" and format == "tiff"))
    if frames > 1 and not several and image.format != "MPO":
        problems.append(f"only the first of its {frames} frames is there")
    options = _options(image, format, wishes)
    name = path.name
    part = path.with_name(f".{name}")  # what is damaged half way leaves no half of a file
    try:
        if several:
            durations: list[int] = []
            frames_read = whole_frames(image, problems)
            first, *rest = _pages(frames_read, format, wishes, size, durations)
            if rest:
                options |= {"save_all": True, "append_images": rest}
            if rest and moving:
                options |= {"duration": durations, "loop": int(image.info.get("loop", 0))}
                options |= {"disposal": 2} if format == "gif" else {}
        else:
            first = _page(image, format, wishes, size)
        if max(first.size) > _LARGEST.get(format, 1 << 31):
            said = f"{name} would have {max(first.size):,} pixels in a row"
            raise BadInput(f"{said}; {format} has at most {_LARGEST[format]:,}")
        first.save(part, "JPEG" if format == "jpeg" else format.upper(), **options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return first.width, first.height, problems


def _options(image: Image.Image, format: Format, wishes: Wishes) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if format == "jpeg":
        options = {"quality": wishes.quality, "optimize": True, "progressive": True}
    elif format == "webp":
        options = {"quality": wishes.quality, "lossless": wishes.lossless}
    elif format == "png":
        options = {"optimize": frames_of(image) == 1}
    elif format == "tiff":
        options = {"compression": "tiff_lzw"}
    if wishes.keep_metadata and format != "gif":
        # A copy, for by its own the image is still to be turned.
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
        exif.pop(ExifTags.Base.Orientation, None)
        if len(exif):
            options["exif"] = exif
            options.pop("compression", None)  # libtiff takes no EXIF: the TIFF is not compressed
    return options


def _pages(
    frames: Iterable[Image.Image],
    format: Format,
    wishes: Wishes,
    size: Size | None,
    durations: list[int],
) -> Iterator[Image.Image]:
    for page in frames:
        durations.append(int(page.info.get("duration", 100)))
        yield _page(page, format, wishes, size)


def _page(image: Image.Image, format: Format, wishes: Wishes, size: Size | None) -> Image.Image:
    """One frame, as it is written."""
    page = upright(image, deep=format in ("png", "tiff"))
    if size is not None:
        page = size.of(page)
    page = _held(page, format, wishes.background)
    page.info = {}  # what is in there would be written as well
    return page


def _held(image: Image.Image, format: Format, background: Colour) -> Image.Image:
    """In a mode that the format has, and upon ``background`` where it has no transparency."""
    if format == "jpeg":
        if image.mode == "RGBA":
            below = Image.new("RGBA", image.size, (*background, 255))
            return Image.alpha_composite(below, image).convert("RGB")
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    if format == "webp" and image.mode not in ("RGB", "RGBA"):
        return image.convert("RGB")
    return image
