"""What each kind of image file becomes, or why it is refused."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from esr.data.images import read_rgb, read_size
from esr.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_files_are_read_exactly(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True)
    np.testing.assert_array_equal(read_rgb(path), RGB)
    assert read_size(path) == (9, 7)


def test_grey_palette_and_one_bit(tmp_path):
    grey = RGB[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), np.stack([grey] * 3, axis=2))
    few = RGB // 128 * 200
    Image.fromarray(few).quantize(16).save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), few)
    Image.fromarray(grey > 99).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "bit.png")[:, :, 1], (grey > 99) * 255)


def test_alpha_is_laid_over_white(tmp_path):
    alpha = np.full((9, 7, 1), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "opaque.png"), RGB)
    alpha[:4] = 0
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "half.png")
    found = read_rgb(tmp_path / "half.png")
    assert (found[:4] == 255).all()
    np.testing.assert_array_equal(found[4:], RGB[4:])


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    deep = np.random.default_rng(1).integers(0, 2**16, (9, 7, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(png(deep))
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep.png"), deep >> 8)
    (tmp_path / "grey.png").write_bytes(png(deep[:, :, :1]))
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png")[:, :, 2], deep[:, :, 0] >> 8)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep.tif"), deep >> 8)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = np.tile(np.arange(32, dtype=np.uint8)[:, None, None] * 8, (1, 16, 3))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=100, exif=exif)
    found = read_rgb(tmp_path / "a.jpg")
    assert found.shape[:2] == read_size(tmp_path / "a.jpg") == (16, 32)
    assert abs(found.astype(int) - np.rot90(smooth, -1)).max() < 8


def test_refused_kinds_are_named(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(RGB).convert("F").convert("F").save(tmp_path / "float.tif")
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name, reason in (
        ("cmyk.jpg", "CMYK"),
        ("float.tif", "mode F"),
        ("moving.png", "several frames"),
        ("pages.tif", "several frames"),
        ("text.png", "not an image"),
        ("empty.jpg", "not an image"),
        ("absent.png", "no such image"),
    ):
        for read in (read_rgb, read_size):
            with pytest.raises(UserError, match=reason) as error:
                read(tmp_path / name)
            assert name in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"whole.{suffix}"
    big = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(big).save(path)
    content = path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UserError, match="cut"):
        read_rgb(cut)
    if suffix != "tif":  # a TIFF's header does not say where it ends
        with pytest.raises(UserError, match="cut"):
            read_size(cut)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    for read in (read_rgb, read_size):
        with pytest.raises(UserError, match=r"data\.max_pixels"):
            read(tmp_path / "bomb.png")
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="62"):
        read_rgb(tmp_path / "a.png", max_pixels=62)
    assert read_size(tmp_path / "bomb.png", max_pixels=400_000_000) == (20_000, 20_000)


def png(image: np.ndarray) -> bytes:
    """A 16-bit PNG, which Pillow reads but does not write."""
    height, width, channels = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
