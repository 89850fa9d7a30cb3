"""Sizes of images."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from image_reading import Unreadable

_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Size:
    """The size that is wished for; 0 where the other side decides."""

    width: int
    height: int
    mode: str
    upscale: bool

    def check(self) -> None:
        """Raises: Unreadable: it is no size, or a size that no image has."""
        if not (self.width or self.height):
            raise Unreadable("width, height: at least one of them is needed")
        if self.mode != "fit" and not (self.width and self.height):
            raise Unreadable(f"{self.mode} needs both width and height")
        if self.width * self.height > _MOST_PIXELS:
            raise Unreadable(f"width × height: an image has at most {_MOST_PIXELS:,} pixels")

    def of(self, image: Image.Image) -> Image.Image:
        """``image`` in this size."""
        size = self.for_size(*image.size)
        if size == image.size:
            return image
        if size[0] * size[1] > _MOST_PIXELS:
            raise Unreadable(f"it would have {size[0]:,} × {size[1]:,} pixels, too many")
        # Colours of a palette, and the two of a bitmap, have nothing between them.
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        elif image.mode == "1":
            image = image.convert("L")
        if self.mode == "fill":
            return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        return image.resize(size, Image.Resampling.LANCZOS)

    def for_size(self, width: int, height: int) -> tuple[int, int]:
        """What an image of ``width`` and ``height`` gets."""
        if self.mode == "fit":
            scales = [
                wished / there
                for wished, there in ((self.width, width), (self.height, height))
                if wished
            ]
            scale = min(scales) if self.upscale else min(*scales, 1.0)
            return max(1, round(width * scale)), max(1, round(height * scale))
        if self.upscale:
            return self.width, self.height
        if self.mode == "exact":
            return min(self.width, width), min(self.height, height)
        # The part of the same shape as the size, as large as it is in the image.
        scale = min(1.0, width / self.width, height / self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))
