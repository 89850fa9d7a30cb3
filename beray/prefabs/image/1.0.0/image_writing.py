"""Writing of images: upright, in sRGB, in a mode that the format supports, without metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, Literal

from PIL import ExifTags, Image, ImageColor

from image_colours import normalized
from image_reading import ImageInputError, frame_count, is_multi_frame, undamaged_frames
from image_resizing import TargetSize

Format = Literal["png", "jpeg", "webp", "gif", "tiff"]
Colour = tuple[int, int, int]

_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif", "tiff": "tif"}
_ANIMATED_FORMATS = ("png", "webp", "gif")
_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383, "gif": 65_535}
_MAX_STEM_CHARACTERS = 120
_INVALID_CHARACTERS = re.compile("[\x00-\x1f\x7f/\\\\\ud800-\udfff]")


@dataclass(frozen=True)
class ImageWriteOptions:
    """Options for writing images."""

    quality: int = 85
    lossless: bool = False
    background: Colour = (255, 255, 255)
    keep_metadata: bool = False


class ImageNames:
    """Allocator of output file names that are unique, also on case-insensitive file systems."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def unique_name(self, stem: str, format: Format) -> str:
        """Return a new name such as ``stem.jpg``, or ``stem-2.jpg`` if that is used."""
        base = _INVALID_CHARACTERS.sub("", stem)[:_MAX_STEM_CHARACTERS].strip() or "image"
        for number in count(1):
            name = f"{base}{f'-{number}' if number > 1 else ''}.{_SUFFIXES[format]}"
            if name.casefold() not in self._used:
                break
        self._used.add(name.casefold())
        return name


def parse_colour(text: str) -> Colour:
    """Return the red, green and blue levels of a colour.

    Raises:
        ImageInputError: ``text`` is neither the name of a colour nor a value such as ``#ffcc00``.
    """
    try:
        red, green, blue, *_ = ImageColor.getcolor(text, "RGBA")  # type: ignore[misc]
    except ValueError:
        similar = get_close_matches(text.lower(), ImageColor.colormap, 3)
        hint = f"did you mean {', '.join(similar)}?" if similar else "use a name or #rrggbb"
        raise ImageInputError(f"background: {text!r} is not a colour; {hint}") from None
    return red, green, blue


def kept_format(image: Image.Image) -> Format:
    """Return the output format that keeps the format of an image; PNG for other formats."""
    known: dict[str, Format] = {"JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "GIF": "gif"}
    return "tiff" if image.format == "TIFF" else known.get(image.format or "", "png")


def write_image(
    image: Image.Image,
    path: Path,
    format: Format,
    options: ImageWriteOptions,
    size: TargetSize | None,
) -> tuple[int, int, list[str]]:
    """Write an image with all frames that the format supports.

    Args:
        image: The image.
        path: Output file. It is created only if the whole image was written.
        format: Output format.
        options: Options of the format.
        size: Requested size; None to keep the size.

    Returns:
        Width, height, and messages about missing frames.

    Raises:
        ImageInputError: The image is too large for the format.
        OSError: The image is damaged.
    """
    problems: list[str] = []
    frames = frame_count(image)
    animated = image.format in ("GIF", "WEBP", "PNG") and format in _ANIMATED_FORMATS
    several = is_multi_frame(image) and (animated or (image.format == "TIFF" and format == "tiff"))
    if frames > 1 and not several and image.format != "MPO":
        problems.append(f"only the first of {frames} frames was written")
    save_arguments = _save_arguments(image, format, options)
    name = path.name
    partial = path.with_name(f".{name}")  # renamed at the end: errors leave no partial output
    try:
        if several:
            durations: list[int] = []
            intact = undamaged_frames(image, problems)
            first, *rest = _output_frames(intact, format, options, size, durations)
            if rest:
                save_arguments |= {"save_all": True, "append_images": rest}
            if rest and animated:
                loop = int(image.info.get("loop", 0))
                save_arguments |= {"duration": durations, "loop": loop}
                save_arguments |= {"disposal": 2} if format == "gif" else {}
        else:
            first = _output_frame(image, format, options, size)
        if max(first.size) > _MAX_SIDE.get(format, 1 << 31):
            size_text = f"{first.width:,} × {first.height:,} pixels"
            limit = f"at most {_MAX_SIDE[format]:,} in width and height"
            raise ImageInputError(f"{name} would have {size_text}; {format} supports {limit}")
        first.save(partial, "JPEG" if format == "jpeg" else format.upper(), **save_arguments)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return first.width, first.height, problems


def _save_arguments(
    image: Image.Image, format: Format, options: ImageWriteOptions
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if format == "jpeg":
        arguments = {"quality": options.quality, "optimize": True, "progressive": True}
    elif format == "webp":
        arguments = {"quality": options.quality, "lossless": options.lossless}
    elif format == "png":
        arguments = {"optimize": frame_count(image) == 1}
    elif format == "tiff":
        arguments = {"compression": "tiff_lzw"}
    if options.keep_metadata and format != "gif":
        # A copy without the orientation, which the image itself still needs to be rotated.
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
        exif.pop(ExifTags.Base.Orientation, None)
        if len(exif):
            arguments["exif"] = exif
            arguments.pop("compression", None)  # libtiff cannot write EXIF
    return arguments


def _output_frames(
    frames: Iterable[Image.Image],
    format: Format,
    options: ImageWriteOptions,
    size: TargetSize | None,
    durations: list[int],
) -> Iterator[Image.Image]:
    for frame in frames:
        durations.append(int(frame.info.get("duration", 100)))
        yield _output_frame(frame, format, options, size)


def _output_frame(
    image: Image.Image, format: Format, options: ImageWriteOptions, size: TargetSize | None
) -> Image.Image:
    """Return a frame with the orientation, size, mode and background of the output."""
    frame = normalized(image, deep=format in ("png", "tiff"))
    if size is not None:
        frame = size.resize(frame)
    frame = _with_supported_mode(frame, format, options.background)
    frame.info = {}  # Pillow would write the metadata in it
    return frame


def _with_supported_mode(image: Image.Image, format: Format, background: Colour) -> Image.Image:
    """Convert to a mode of the format; without transparency, composite on ``background``."""
    if format == "jpeg":
        if image.mode == "RGBA":
            canvas = Image.new("RGBA", image.size, (*background, 255))
            return Image.alpha_composite(canvas, image).convert("RGB")
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    if format == "webp" and image.mode not in ("RGB", "RGBA"):
        return image.convert("RGB")
    return image
