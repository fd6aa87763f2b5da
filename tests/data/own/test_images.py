"""Image files of every kind: decoded as their author sees them, or refused."""

from __future__ import annotations

import io
import sys

import numpy as np
import photo_samples
import pytest
from PIL import Image

from keras_munet.data.own import images as own_images

# Left half dark, right half bright; wider than high.
PIXELS = np.zeros((4, 6), np.uint8)
PIXELS[:, 3:] = 200


def _file(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _png(array, mode=None, **options):
    return _file(Image.fromarray(array, mode), **options)


def test_grey_images_keep_one_channel():
    pixels = own_images.decoded(_png(PIXELS))
    assert pixels.shape == (4, 6, 1)
    assert (pixels[..., 0] == PIXELS).all()


def test_color_images_are_read_exactly():
    colors = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert (own_images.decoded(_png(colors)) == colors).all()


def test_bits_become_black_and_white():
    image = Image.fromarray(PIXELS).convert("1")
    pixels = own_images.decoded(_file(image))
    assert set(np.unique(pixels)) == {0, 255}


def test_transparent_parts_are_laid_on_white():
    colors = np.zeros((2, 2, 4), np.uint8)
    colors[0, :, 3] = 255
    pixels = own_images.decoded(_png(colors))
    assert pixels.shape == (2, 2, 1)
    assert (pixels[0] == 0).all()
    assert (pixels[1] == 255).all()


def test_a_palette_is_applied_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    pixels = own_images.decoded(_file(image))
    assert pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    pixels = own_images.decoded(_file(image, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_16_bit_pixels_keep_their_upper_half():
    wide = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    pixels = own_images.decoded(_png(wide))
    assert pixels[..., 0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright(orientation):
    upright = Image.fromarray(np.dstack([PIXELS] * 3))
    turned = upright
    back = photo_samples.BACK[orientation]
    if back is not None:
        turned = upright.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _file(turned, exif=exif)
    assert (own_images.decoded(content)[..., 0] == PIXELS).all()


def test_print_colors_become_screen_colors():
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    pixels = own_images.decoded(_file(image, "TIFF"))
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0, 0] > pixels[0, 0, 1]


def test_of_a_moving_picture_the_first_is_taken():
    frames = [Image.new("L", (3, 3), value) for value in (10, 250)]
    content = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (own_images.decoded(content) == 10).all()


def _damaged():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    jpeg, png = _file(Image.fromarray(noise), "JPEG"), _png(noise)
    broken = bytearray(png)
    broken[len(png) // 2] ^= 255
    return {
        "empty": (b"", "empty: 0 bytes"),
        "text": (b"this is no image", "not an image"),
        "half a JPEG": (jpeg[: len(jpeg) // 2], "damaged"),
        "half a PNG": (png[: len(png) // 2], "damaged"),
        "a changed byte": (bytes(broken), "damaged"),
        "a head alone": (png[:20], "damaged|not an image"),
        "floats": (
            _file(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"),
            "floats",
        ),
        "32 bits": (
            _file(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"),
            "8 or 16 bits",
        ),
    }


@pytest.mark.parametrize("kind", _damaged())
def test_what_cannot_be_used_is_refused_with_its_reason(kind):
    content, reason = _damaged()[kind]
    with pytest.raises(own_images.UnusableImageError, match=reason) as caught:
        own_images.decoded(content)
    assert "\n" not in str(caught.value)


def test_a_picture_that_would_fill_memory_is_refused_by_its_head(monkeypatch):
    monkeypatch.setattr(own_images, "NUM_PIXELS_MAX", 23)
    for read in (own_images.size_of, own_images.decoded):
        with pytest.raises(own_images.UnusableImageError, match="6 x 4"):
            read(_png(PIXELS))


def test_a_resize_keeps_the_whole_image_and_its_channels():
    grey = own_images.resized(PIXELS[..., None], 8, 8)
    assert grey.shape == (8, 8, 1)
    assert (grey[:, :3] == 0).all()
    assert (grey[:, 5:] == 200).all()
    same = np.zeros((3, 5, 3), np.uint8)
    assert own_images.resized(same, 3, 5) is same


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\x0a" + bytes(40), "JPEG XL is not read"),
        (b"\x00\x00\x00\x0cJXL \r\n" + bytes(40), "JPEG XL is not read"),
        (b"%PDF-1.7\n", "PDF is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript is not read"),
        (b"8BPS" + bytes(40), "a Photoshop file is not read"),
        (b"<svg xmlns='x'/>", "SVG is not read"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "a video is not read"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIC"),
        (b"nothing of the kind", "not an image"),
    ],
)
def test_a_kind_of_file_that_is_not_read_is_named(content, reason):
    for read in (own_images.size_of, own_images.decoded):
        with pytest.raises(own_images.UnusableImageError, match=reason):
            read(content)


def test_heic_names_the_extra_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(own_images.UnusableImageError, match=r"\[heic\]"):
        own_images.decoded(b"\0\0\0\x18ftypheic" + bytes(40))


def test_heic_is_read_with_the_extra():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    colors = np.zeros((32, 48, 3), np.uint8)
    colors[:, 24:] = 200
    read = own_images.picture(_file(Image.fromarray(colors), "HEIF"))
    assert read.pixels.shape[:2] == (32, 48)
    assert read.unserved == "HEIF"
    np.testing.assert_allclose(read.pixels[..., 0], colors[..., 0], atol=8)


def test_a_raw_photograph_is_not_taken_for_its_thumbnail():
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    content = _file(image, "TIFF", tiffinfo={0xC612: bytes([1, 4, 0, 0])})
    with pytest.raises(own_images.UnusableImageError, match="raw photograph"):
        own_images.decoded(content)
