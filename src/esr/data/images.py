"""Image files in, RGB uint8 out: the one decoding path, and what it does with unusual files.

| file | becomes |
| --- | --- |
| RGB, 8 bits | itself |
| grey (also 1 bit) | its value in all three channels |
| palette | the palette's colours |
| alpha | laid over white (a fully opaque alpha changes nothing) |
| 16 bits a channel | its upper eight bits |
| EXIF orientation | applied, as every viewer does |
| CMYK, LAB, 32-bit, animated or several pages | refused: convert it first |
| more pixels than `max_pixels` | refused (a small file can unpack to gigabytes) |
| cut short, or no image at all | refused |
"""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from esr.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
MAX_PIXELS = 178_956_970
"""The default limit of one image, Pillow's own; `data.max_pixels` raises or lowers it."""

_PLAIN = {"1", "L", "P", "RGB"}
_ALPHA = {"LA", "PA", "RGBA", "La", "RGBa"}
_SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N"}
_WITH_EXIF = {"JPEG", "TIFF", "WEBP", "MPO"}
_ROTATED = {5, 6, 7, 8}  # EXIF orientations that swap width and height


def read_rgb(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file into uint8 RGB of shape (H, W, 3); UserError by the table above."""
    path = Path(path)
    with _opened(path, max_pixels) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, struct.error) as error:
            raise UserError(
                f"{path} is damaged or cut short ({error}). Restore the file or remove it."
            ) from error
        if image.format in _WITH_EXIF:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image)


def read_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width that an image file will have when decoded; refuses what `read_rgb` refuses.

    A cut PNG, JPEG, WebP or BMP is noticed by its missing end, other damage only by decoding.
    """
    path = Path(path)
    with _opened(path, max_pixels) as image:
        width, height = image.size
        if image.format in _WITH_EXIF and image.getexif().get(0x0112) in _ROTATED:
            width, height = height, width
        kind = image.format
    _check_end(path, kind)
    return height, width


def _opened(path: Path, max_pixels: int) -> Image.Image:
    if max_pixels > MAX_PIXELS:  # the user raised the limit: Pillow's own must not be in the way
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"no such image: {path}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}. Raise data.max_pixels if it is meant.") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not an image that can be read. Remove it from the folder, or convert it "
            "to PNG."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be opened: {error}") from error
    width, height = image.size
    problem = None
    if width * height > max_pixels:
        problem = f"has {width * height} pixels, more than data.max_pixels={max_pixels} allows"
    elif getattr(image, "n_frames", 1) > 1:
        problem = "holds several frames or pages; one image a file is expected: split it first"
    elif image.mode not in _PLAIN | _ALPHA | _SIXTEEN:
        problem = (
            f"is of mode {image.mode}, which has no single meaning in RGB; expected RGB, grey, "
            "palette, alpha or 16 bits: convert it first"
        )
    if problem:
        image.close()
        raise UserError(f"{path} {problem}")
    return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def _check_end(path: Path, kind: str | None) -> None:
    """Refuse a file whose end is missing, as far as its format tells."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(max(0, size - 65536))
        tail = file.read()
    whole = {
        "PNG": b"IEND" in tail,
        "JPEG": b"\xff\xd9" in tail,
        "MPO": b"\xff\xd9" in tail,
        "WEBP": size >= int.from_bytes(head[4:8], "little") + 8,
        "BMP": size >= int.from_bytes(head[2:6], "little"),
    }
    if not whole.get(kind or "", True):
        raise UserError(f"{path} is cut short: its end is missing. Restore the file or remove it.")
