"""Contact sheets: thumbnails with captions on one image."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from image_colours import normalized
from image_reading import ImageInputError

_GAP = 12
_CAPTION_SIZE = 13
_CAPTION_HEIGHT = 22
_MAX_PIXELS = 200_000_000
_DARK = 128
"""Luminance below which captions are white."""
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "DejaVuSans.ttf")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class ContactSheet:
    """Contact sheet. It keeps only the thumbnails of the images that are added."""

    def __init__(self, size: int, captions: bool, background: tuple[int, int, int]) -> None:
        self._size = size
        self._captions = captions
        self._background = background
        self._images: list[tuple[Image.Image, str]] = []

    @property
    def image_count(self) -> int:
        """Number of images on the sheet."""
        return len(self._images)

    def add(self, image: Image.Image, name: str) -> None:
        """Add the thumbnail of an image.

        Args:
            image: The image.
            name: Caption.

        Raises:
            OSError: The image is damaged.
        """
        image.draft("RGB", (self._size * 2, self._size * 2))  # decodes a JPEG at a reduced size
        small = normalized(image, deep=False)
        if small.mode not in ("RGB", "RGBA"):
            small = small.convert("RGB")
        small.thumbnail((self._size, self._size), Image.Resampling.LANCZOS)
        self._images.append((small, name))

    def draw(self, columns: int) -> Image.Image:
        """Draw the sheet.

        Args:
            columns: Number of images in a row; 0 makes the sheet about square.

        Raises:
            ImageInputError: The sheet would be too large.
        """
        across = min(columns or math.ceil(math.sqrt(self.image_count)), self.image_count)
        down = math.ceil(self.image_count / across)
        cell_height = self._size + _GAP + (_CAPTION_HEIGHT if self._captions else 0)
        width = across * (self._size + _GAP) + _GAP
        height = down * cell_height + _GAP
        if width * height > _MAX_PIXELS:
            size = f"{width:,} × {height:,} pixels (limit: {_MAX_PIXELS:,})"
            raise ImageInputError(f"the sheet would have {size}; reduce size or use fewer images")
        sheet = Image.new("RGB", (width, height), self._background)
        draw = ImageDraw.Draw(sheet)
        font = _font()
        red, green, blue = self._background
        text_colour = "white" if (red * 3 + green * 6 + blue) / 10 < _DARK else "black"
        for index, (image, name) in enumerate(self._images):
            left = _GAP + index % across * (self._size + _GAP)
            top = _GAP + index // across * cell_height
            x, y = left + (self._size - image.width) // 2, top + (self._size - image.height) // 2
            sheet.paste(image, (x, y), image if image.mode == "RGBA" else None)
            if self._captions:
                caption = _shortened(draw, font, name, self._size)
                caption_left = left + (self._size - draw.textlength(caption, font)) / 2
                draw.text((caption_left, top + self._size + 3), caption, text_colour, font)
        return sheet


def _font() -> Font:
    """Return an installed font that covers many scripts, or Pillow's default font."""
    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, _CAPTION_SIZE)
        except OSError:
            continue
    return ImageFont.load_default(_CAPTION_SIZE)


def _shortened(draw: ImageDraw.ImageDraw, font: Font, name: str, width: int) -> str:
    """Return ``name`` without its middle if it is wider than ``width`` pixels."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    kept = len(name)
    text = name
    while kept > 1 and draw.textlength(text, font) > width:
        kept -= 1
        text = name[: (kept + 1) // 2] + "…" + name[len(name) - kept // 2 :]
    return text
