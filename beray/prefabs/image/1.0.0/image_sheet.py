"""A contact sheet."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from image_colours import upright
from image_reading import BadInput

_GAP = 12
_CAPTION_SIZE = 13
_CAPTION_HEIGHT = 22
_MOST_PIXELS = 200_000_000
_DARK = 128
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "DejaVuSans.ttf")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Sheet:
    """Takes images, and keeps them small."""

    def __init__(self, size: int, captions: bool, background: tuple[int, int, int]) -> None:
        self._size = size
        self._captions = captions
        self._background = background
        self._images: list[tuple[Image.Image, str]] = []

    @property
    def shown(self) -> int:
        """How many images it has."""
        return len(self._images)

    def add(self, image: Image.Image, name: str) -> None:
        """Take an image.

        Raises:
            OSError: it is damaged.
        """
        image.draft("RGB", (self._size * 2, self._size * 2))  # a JPEG is read in a small size
        small = upright(image, deep=False)
        if small.mode not in ("RGB", "RGBA"):
            small = small.convert("RGB")
        small.thumbnail((self._size, self._size), Image.Resampling.LANCZOS)
        self._images.append((small, name))

    def made(self, columns: int) -> Image.Image:
        """The sheet.

        Raises:
            BadInput: It would be too large.
        """
        across = min(columns or math.ceil(math.sqrt(self.shown)), self.shown)
        down = math.ceil(self.shown / across)
        cell_height = self._size + _GAP + (_CAPTION_HEIGHT if self._captions else 0)
        width = across * (self._size + _GAP) + _GAP
        height = down * cell_height + _GAP
        if width * height > _MOST_PIXELS:
            size = f"{width:,} × {height:,} pixels, more than {_MOST_PIXELS:,}"
            raise BadInput(f"the sheet would have {size}; reduce size, or the number of images")
        sheet = Image.new("RGB", (width, height), self._background)
        draw = ImageDraw.Draw(sheet)
        font = _font()
        red, green, blue = self._background
        ink = "white" if (red * 3 + green * 6 + blue) / 10 < _DARK else "black"
        for index, (image, name) in enumerate(self._images):
            left = _GAP + index % across * (self._size + _GAP)
            top = _GAP + index // across * cell_height
            place = (left + (self._size - image.width) // 2, top + (self._size - image.height) // 2)
            sheet.paste(image, place, image if image.mode == "RGBA" else None)
            if self._captions:
                caption = _fitting(draw, font, name, self._size)
                middle = left + (self._size - draw.textlength(caption, font)) / 2
                draw.text((middle, top + self._size + 3), caption, ink, font)
        return sheet


def _font() -> Font:
    """One that has the letters of many scripts, if there is one."""
    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, _CAPTION_SIZE)
        except OSError:
            continue
    return ImageFont.load_default(_CAPTION_SIZE)


def _fitting(draw: ImageDraw.ImageDraw, font: Font, name: str, width: int) -> str:
    """``name`` in one line no wider than ``width``, cut in its middle."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    kept = len(name)
    text = name
    while kept > 1 and draw.textlength(text, font) > width:
        kept -= 1
        text = name[: (kept + 1) // 2] + "…" + name[len(name) - kept // 2 :]
    return text
