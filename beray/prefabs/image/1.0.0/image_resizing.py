"""Resizing of images."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from image_reading import ImageInputError

_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class TargetSize:
    """Requested size of images.

    A width or height of 0 follows from the other one.
    """

    width: int
    height: int
    mode: str
    """``fit``, ``fill`` or ``exact``."""
    upscale: bool

    def check(self) -> None:
        """Validate the size.

        Raises:
            ImageInputError: Neither width nor height is set, one is missing for ``mode``, or the
                size exceeds the limit.
        """
        if not (self.width or self.height):
            raise ImageInputError("width, height: at least one is required")
        if self.mode != "fit" and not (self.width and self.height):
            raise ImageInputError(f"mode {self.mode} requires both width and height")
        if self.width * self.height > _MAX_PIXELS:
            size = f"{self.width:,} × {self.height:,} pixels"
            raise ImageInputError(f"width, height: {size} exceed the limit of {_MAX_PIXELS:,}")

    def resize(self, image: Image.Image) -> Image.Image:
        """Return ``image`` in the requested size.

        Raises:
            ImageInputError: The result would exceed the limit of pixels.
        """
        size = self.result_size(*image.size)
        if size == image.size:
            return image
        if size[0] * size[1] > _MAX_PIXELS:
            pixels = f"{size[0]:,} × {size[1]:,} pixels"
            raise ImageInputError(f"the result would have {pixels}; the limit is {_MAX_PIXELS:,}")
        # Resampling needs intermediate colours, which palettes and bitmaps do not have.
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        elif image.mode == "1":
            image = image.convert("L")
        if self.mode == "fill":
            return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        return image.resize(size, Image.Resampling.LANCZOS)

    def result_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the new width and height of an image of ``width`` × ``height`` pixels."""
        if self.mode == "fit":
            scales = [
                requested / current
                for requested, current in ((self.width, width), (self.height, height))
                if requested
            ]
            scale = min(scales) if self.upscale else min(*scales, 1.0)
            return max(1, round(width * scale)), max(1, round(height * scale))
        if self.upscale:
            return self.width, self.height
        if self.mode == "exact":
            return min(self.width, width), min(self.height, height)
        # The largest part of the image that has the requested aspect ratio.
        scale = min(1.0, width / self.width, height / self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))
