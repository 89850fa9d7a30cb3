"""Normalization of images: EXIF orientation, colour profile and bit depth."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageOps

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def normalized(image: Image.Image, *, deep: bool) -> Image.Image:
    """Return a copy that is rotated by its EXIF orientation and converted to sRGB.

    Images with transparency become RGBA.

    Args:
        image: The image; it is not changed.
        deep: Keep grey levels of 16 bits; otherwise they are scaled to 8 bits.
    """
    rotated = ImageOps.exif_transpose(image)
    if rotated.mode in _DEEP_MODES:
        return rotated if deep and rotated.mode != "F" else _to_8_bits(rotated)
    if rotated.has_transparency_data and rotated.mode != "RGBA":
        rotated = rotated.convert("RGBA")
    elif rotated.mode == "P" and rotated.info.get("icc_profile"):
        rotated = rotated.convert("RGB")
    return _to_srgb(rotated)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert to sRGB, which programs assume for images without a colour profile."""
    profile_data = image.info.get("icc_profile")
    if profile_data and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        mode = "RGB" if image.mode in ("CMYK", "L") else image.mode
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_data))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode=mode)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None  # an invalid profile is ignored
        if converted is not None:
            return converted
    return image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels to 8 bits. Pillow would clip them, and most pixels would be white."""
    if image.mode == "F":
        low, high = (float(str(value)) for value in image.getextrema())
        scale = 255.0 / ((high - low) or 1.0)
        return image.point(lambda value: value * scale - low * scale).convert("L")
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
