"""Images as they are meant to be seen: upright, and in sRGB."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageOps

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def upright(image: Image.Image, *, deep: bool) -> Image.Image:
    """A copy that is turned as its camera said, in sRGB; transparent ones are RGBA.

    Args:
        deep: leave grey levels of 16 bits as they are; else they become 8.
    """
    seen = ImageOps.exif_transpose(image)
    if seen.mode in _DEEP:
        return seen if deep and seen.mode != "F" else _shallow(seen)
    if seen.has_transparency_data and seen.mode != "RGBA":
        seen = seen.convert("RGBA")
    elif seen.mode == "P" and seen.info.get("icc_profile"):
        seen = seen.convert("RGB")
    return _in_srgb(seen)


def _in_srgb(image: Image.Image) -> Image.Image:
    """In the colours that are meant where nothing is said of them, for the profile is dropped."""
    packed = image.info.get("icc_profile")
    if packed and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        wanted = "RGB" if image.mode in ("CMYK", "L") else image.mode
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(packed))
            srgb = ImageCms.createProfile("sRGB")
            changed = ImageCms.profileToProfile(image, profile, srgb, outputMode=wanted)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            changed = None  # a broken profile says nothing; the colours are taken as they are
        if changed is not None:
            return changed
    return image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image


def _shallow(image: Image.Image) -> Image.Image:
    """Grey levels as 8 bits; cut off, they would be white."""
    if image.mode == "F":
        low, high = (float(str(value)) for value in image.getextrema())
        scale = 255.0 / ((high - low) or 1.0)
        return image.point(lambda value: value * scale - low * scale).convert("L")
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
