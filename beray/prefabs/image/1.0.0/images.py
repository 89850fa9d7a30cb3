"""Images: ``convert``, ``resize``, ``contact_sheet`` and ``info``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from beray.prefab import Call, Progress, all_failed
from image_reading import BadInput, described, opened, size_of
from image_sheet import Sheet
from image_sizes import Size
from image_writing import Format, Names, Wishes, colour, format_of, write

Stream = Generator[Progress | dict[str, Any], None, dict[str, Any]]
_MOST_ON_A_SHEET = 500
_MOST_PROBLEMS = 50


def convert(
    call: Call,
    *,
    format: Format,
    quality: int = 85,
    lossless: bool = False,
    background: str = "white",
    keep_metadata: bool = False,
) -> Stream:
    """Images in another format.

    Yields:
        what is told of each image, as soon as it is converted.

    Raises:
        ValueError: there is no image, none that could be converted, or no such colour.
    """
    wishes = Wishes(quality, lossless, colour(background), keep_metadata)

    def format_for(image: Image.Image) -> Format:
        return format

    done = yield from _each(call, wishes, format_for, None)
    return {"images": done, **_counts(done, "converted")}


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
    """Images in another size.

    Yields:
        what is told of each image, as soon as it has its size.

    Raises:
        ValueError: there is no image, none that could be resized, or no size.
    """
    size = Size(width, height, mode, upscale)
    size.check()

    def format_for(image: Image.Image) -> Format:
        return format or format_of(image)

    done = yield from _each(call, Wishes(quality=quality), format_for, size)
    return {"images": done, **_counts(done, "resized")}


def contact_sheet(
    call: Call,
    *,
    columns: int = 0,
    size: int = 240,
    captions: bool = True,
    background: str = "white",
) -> Stream:
    """All images small on one.

    Raises:
        ValueError: there is no image, none that could be read, or no such colour.
    """
    paths = _images(call)
    if len(paths) > _MOST_ON_A_SHEET:
        raise BadInput(f"images: got {len(paths)} files, a sheet holds {_MOST_ON_A_SHEET}")
    sheet = Sheet(size, captions, colour(background))
    problems: list[str] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            with opened(path) as image:
                sheet.add(image, path.name)
        except BadInput as error:
            problems.append(str(error))
    if not sheet.shown:
        raise BadInput(all_failed(problems))
    made = sheet.made(columns)
    file = "contact-sheet.png"
    made.save(call.output("sheet", file))
    yield Progress(1.0)
    return {
        "file": file,
        "width": made.width,
        "height": made.height,
        "shown": sheet.shown,
        "problems": problems[:_MOST_PROBLEMS],
    }


def info(call: Call) -> dict[str, Any]:
    """What images are.

    Raises:
        ValueError: there is no image.
    """
    told = []
    for path in _images(call):
        known: dict[str, Any] = {"name": path.name, "bytes": 0}
        try:
            known["bytes"] = size_of(path)
            with opened(path) as image:
                known |= described(image)
        except BadInput as error:
            unknown = ("format", "width", "height", "frames", "transparent", "has_place")
            known |= dict.fromkeys(unknown) | {"problems": [str(error)]}
        told.append(known)
    return {"images": told}


def _images(call: Call) -> list[Path]:
    paths = list(call.files.get("images", ()))
    if not paths:
        raise BadInput("images: at least one file is needed")
    return paths


def _each(
    call: Call, wishes: Wishes, format_for: Callable[[Image.Image], Format], size: Size | None
) -> Generator[Progress | dict[str, Any], None, list[dict[str, Any]]]:
    """Write each image anew; what is told of each."""
    paths = _images(call)
    names = Names()
    done: list[dict[str, Any]] = []
    for index, path in enumerate(paths):
        yield Progress(index / len(paths), path.name)
        try:
            with opened(path) as image:
                format = format_for(image)
                written = call.output("images", names.take(path.stem, format))
                width, height, problems = write(image, written, format, wishes, size)
            told: dict[str, Any] = {"name": path.name, "file": written.name}
            told |= {"width": width, "height": height, "bytes": written.stat().st_size}
        except BadInput as error:
            problems = [str(error)]
            told = {"name": path.name, **dict.fromkeys(("file", "width", "height", "bytes"))}
        done.append(told | {"problems": problems})
        yield done[-1]
    if all(each["file"] is None for each in done):
        raise BadInput(all_failed([each["problems"][0] for each in done]))
    yield Progress(1.0)
    return done


def _counts(done: list[dict[str, Any]], word: str) -> dict[str, int]:
    failed = sum(each["file"] is None for each in done)
    return {word: len(done) - failed, "failed": failed}
