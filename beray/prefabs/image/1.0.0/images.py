"""Functions of the prefab ``image``: ``convert``, ``resize``, ``contact_sheet`` and ``info``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from beray.prefab import Call, Progress, all_failed
from image_contact_sheet import ContactSheet
from image_reading import ImageInputError, describe_image, file_size, open_image
from image_resizing import TargetSize
from image_writing import (
    Format,
    ImageNames,
    ImageWriteOptions,
    kept_format,
    parse_colour,
    write_image,
)

Stream = Generator[Progress | dict[str, Any], None, dict[str, Any]]
_MAX_SHEET_IMAGES = 500
_MAX_PROBLEMS = 50


def convert(
    call: Call,
    *,
    format: Format,
    quality: int = 85,
    lossless: bool = False,
    background: str = "white",
    keep_metadata: bool = False,
) -> Stream:
    """Convert images to another format.

    ``prefab.toml`` documents the parameters and results of all functions.

    Yields:
        The result of each image after its conversion.

    Raises:
        ImageInputError: The call has no image, no image could be converted, or ``background`` is
            not a colour.
    """
    options = ImageWriteOptions(quality, lossless, parse_colour(background), keep_metadata)

    def format_for(image: Image.Image) -> Format:
        return format

    results = yield from _write_each(call, options, format_for, None)
    return {"images": results, **_counts(results, "converted")}


def resize(
    call: Call,
    *,
    width: int = 0,
    height: int = 0,
    mode: Literal["fit", "fill", "exact"] = "fit",
    upscale: bool = False,
    format: Literal["", "png", "jpeg", "webp", "gif", "tiff"] = "",
    quality: int = 85,
) -> Stream:
    """Resize images.

    Yields:
        The result of each image after it was resized.

    Raises:
        ImageInputError: The call has no image, no image could be resized, or ``width`` and
            ``height`` are missing or too large.
    """
    size = TargetSize(width, height, mode, upscale)
    size.check()

    def format_for(image: Image.Image) -> Format:
        return format or kept_format(image)

    results = yield from _write_each(call, ImageWriteOptions(quality=quality), format_for, size)
    return {"images": results, **_counts(results, "resized")}


def contact_sheet(
    call: Call,
    *,
    columns: int = 0,
    size: int = 240,
    captions: bool = True,
    background: str = "white",
) -> Stream:
    """Draw thumbnails of all images on one image.

    Raises:
        ImageInputError: The call has no image or too many, no image could be read,
            ``background`` is not a colour, or the sheet would be too large.
    """
    paths = _images(call)
    if len(paths) > _MAX_SHEET_IMAGES:
        raise ImageInputError(f"images: got {len(paths)} files; the limit is {_MAX_SHEET_IMAGES}")
    sheet = ContactSheet(size, captions, parse_colour(background))
    problems: list[str] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            with open_image(path) as image:
                sheet.add(image, path.name)
        except ImageInputError as error:
            problems.append(str(error))
    if not sheet.image_count:
        raise ImageInputError(all_failed(problems))
    drawn = sheet.draw(columns)
    file = "contact-sheet.png"
    drawn.save(call.output("sheet", file))
    yield Progress(1.0)
    return {
        "file": file,
        "width": drawn.width,
        "height": drawn.height,
        "shown": sheet.image_count,
        "problems": problems[:_MAX_PROBLEMS],
    }


def info(call: Call) -> dict[str, Any]:
    """Describe images.

    Raises:
        ImageInputError: The call has no image.
    """
    results = []
    for path in _images(call):
        result: dict[str, Any] = {"name": path.name, "bytes": 0}
        try:
            result["bytes"] = file_size(path)
            with open_image(path) as image:
                result |= describe_image(image)
        except ImageInputError as error:
            unknown = ("format", "width", "height", "frames", "transparent", "has_place")
            result |= dict.fromkeys(unknown) | {"problems": [str(error)]}
        results.append(result)
    return {"images": results}


def _images(call: Call) -> list[Path]:
    paths = list(call.files.get("images", ()))
    if not paths:
        raise ImageInputError("images: at least one file is required")
    return paths


def _write_each(
    call: Call,
    options: ImageWriteOptions,
    format_for: Callable[[Image.Image], Format],
    size: TargetSize | None,
) -> Generator[Progress | dict[str, Any], None, list[dict[str, Any]]]:
    """Write each image to an output file, and return the results."""
    paths = _images(call)
    names = ImageNames()
    results: list[dict[str, Any]] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            with open_image(path) as image:
                format = format_for(image)
                output = call.output("images", names.unique_name(path.stem, format))
                width, height, problems = write_image(image, output, format, options, size)
            result: dict[str, Any] = {"name": path.name, "file": output.name}
            result |= {"width": width, "height": height, "bytes": output.stat().st_size}
        except ImageInputError as error:
            problems = [str(error)]
            result = {"name": path.name, **dict.fromkeys(("file", "width", "height", "bytes"))}
        results.append(result | {"problems": problems})
        yield results[-1]
    if all(each["file"] is None for each in results):
        raise ImageInputError(all_failed([each["problems"][0] for each in results]))
    yield Progress(1.0)
    return results


def _counts(results: list[dict[str, Any]], success_key: str) -> dict[str, int]:
    failed = sum(each["file"] is None for each in results)
    return {success_key: len(results) - failed, "failed": failed}
