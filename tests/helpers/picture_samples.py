"""Picture files of every kind, and the table of which door reads which.

    python tests/helpers/picture_samples.py

prints the table that docs/pictures.md holds.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 37, 53
_RNG = np.random.default_rng(0)
_SLOPE = np.add.outer(np.arange(HEIGHT) * 5, np.arange(WIDTH) * 3) % 256
_COLORS = np.stack([_SLOPE, 255 - _SLOPE, _SLOPE // 2], -1)
_NOISY = np.clip(_COLORS + _RNG.normal(0, 30, _COLORS.shape), 0, 255)
COLORS = _NOISY.astype(np.uint8)
ALPHA = _RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
_RGB = Image.fromarray(COLORS)
_GREY = Image.fromarray(COLORS[..., 0])
_RGBA = Image.fromarray(np.dstack([COLORS, ALPHA]))
_PALETTE = _RGB.quantize(200)
_MOST = int(np.bincount(np.asarray(_PALETTE).ravel()).argmax())
_MARK = (int(COLORS[3, 3, 0]), int(COLORS[3, 3, 1]), int(COLORS[3, 3, 2]))


class Sample(NamedTuple):
    """A picture file.

    Attributes:
      kind: in words.
      content: of the file.
      served: whether `predict_bytes` decodes it.
      webp: whether it does so where the export was made with `webp`.
    """

    kind: str
    content: bytes
    served: bool = True
    webp: bool = True


def save(image: Image.Image, form: str, **options) -> bytes:
    """Returns a file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int, endian: str = "<") -> bytes:
    """Returns an EXIF block with the orientation behind another tag."""
    mark = b"II" if endian == "<" else b"MM"
    maker = struct.pack(endian + "HHI4s", 0x010F, 2, 4, b"cam\0")
    turn = struct.pack(endian + "HHIHH", 0x0112, 3, 1, orientation, 0)
    head = mark + struct.pack(endian + "HIH", 42, 8, 2)
    return b"Exif\0\0" + head + maker + turn + bytes(4)


def png(color_type: int, depth: int, rows: np.ndarray, *chunks) -> bytes:
    """Returns a PNG whose rows are written as they are."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return (
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", checksum)
        )

    head = struct.pack(
        ">IIBBBBB", rows.shape[1], rows.shape[0], depth, color_type, 0, 0, 0
    )
    kind = ">u2" if depth == 16 else "u1"
    raw = b"".join(b"\0" + row.astype(kind).tobytes() for row in rows)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *(chunk(name, data) for name, data in chunks),
            chunk(b"IDAT", zlib.compress(raw)),
            chunk(b"IEND", b""),
        ]
    )


def wide(bits: int, num_channels: int) -> np.ndarray:
    """Returns 16-bit pixels that use some of their bits."""
    values = _RNG.integers(0, 2**bits, (HEIGHT, WIDTH, num_channels))
    values[0, 0] = 2**bits - 1
    return values.astype(np.uint16)


def _gif_with_local_table() -> bytes:
    """Returns a GIF whose first frame brings its own colours."""
    image = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    plain = save(Image.fromarray(image * 60).quantize(4), "GIF")
    # Moves the global table behind the frame's head.
    flags = plain[10]
    table = plain[13 : 13 + 3 * 2 ** (flags % 8 + 1)]
    rest = plain[13 + len(table) :]
    at = rest.index(b",")
    frame = bytearray(rest[at : at + 10])
    frame[9] = 0x80 | flags % 8
    head = plain[:10] + bytes([flags & 0x70]) + plain[11:13]
    return head + rest[:at] + bytes(frame) + table + rest[at + 10 :]


@functools.cache
def samples() -> tuple[Sample, ...]:
    """Returns files of every kind that a person may have."""
    animated = {"save_all": True, "append_images": [_RGB.rotate(90)]}
    frames = [_PALETTE.rotate(90), _PALETTE.rotate(180)]
    smaller = Image.new("P", (9, 9))
    found = [
        *(
            Sample(
                f"JPEG, quality {q}, {name}",
                save(_RGB, "JPEG", quality=q, subsampling=s),
            )
            for q in (75, 95)
            for s, name in enumerate(("4:4:4", "4:2:2", "4:2:0"))
        ),
        Sample("JPEG, grey", save(_GREY, "JPEG", quality=90)),
        Sample("JPEG, progressive", save(_RGB, "JPEG", progressive=True)),
        Sample("JPEG, CMYK", save(_RGB.convert("CMYK"), "JPEG", quality=95)),
        *(
            Sample(f"JPEG, EXIF turn {o}", save(_RGB, "JPEG", exif=exif(o)))
            for o in range(10)
        ),
        Sample(
            "JPEG, EXIF turn 6, big-endian, behind a comment",
            save(_RGB, "JPEG", exif=exif(6, ">"), comment=b"x" * 5000),
        ),
        Sample(
            "JPEG, a turn in XMP alone, which counts for nothing",
            save(_RGB, "JPEG", xmp=b'<x:xmpmeta tiff:Orientation="6"/>'),
        ),
        Sample("PNG, 1 bit", save(_GREY.convert("1"), "PNG")),
        Sample("PNG, grey", save(_GREY, "PNG")),
        Sample(
            "PNG, grey with alpha",
            save(Image.merge("LA", (_GREY, Image.fromarray(ALPHA))), "PNG"),
        ),
        Sample("PNG, palette", save(_PALETTE, "PNG")),
        Sample("PNG, palette of 2 bits", save(_RGB.quantize(4), "PNG", bits=2)),
        Sample("PNG, colour", save(_RGB, "PNG")),
        Sample("PNG, colour with alpha", save(_RGBA, "PNG")),
        Sample(
            "PNG, palette, one clear colour",
            save(_PALETTE, "PNG", transparency=_MOST),
        ),
        Sample(
            "PNG, palette with alpha",
            save(_PALETTE, "PNG", transparency=bytes(range(56, 256))),
        ),
        Sample(
            "PNG, grey, one clear level",
            save(_GREY, "PNG", transparency=_MARK[0]),
        ),
        Sample("PNG, one clear colour", save(_RGB, "PNG", transparency=_MARK)),
        *(
            Sample(
                f"PNG, 16 bits of which {bits} are used, {name}",
                png(color_type, 16, wide(bits, channels)),
            )
            for bits in (8, 12, 16)
            for name, color_type, channels in (
                ("grey", 0, 1),
                ("colour", 2, 3),
                ("grey with alpha", 4, 2),
                ("colour with alpha", 6, 4),
            )
        ),
        Sample("PNG, EXIF turn 6", save(_RGB, "PNG", exif=exif(6)[6:])),
        Sample("PNG, EXIF turn 3", save(_RGBA, "PNG", exif=exif(3)[6:])),
        Sample("GIF", save(_PALETTE, "GIF")),
        Sample(
            "GIF, a clear colour", save(_PALETTE, "GIF", transparency=_MOST)
        ),
        Sample(
            "GIF, 3 frames",
            save(_PALETTE, "GIF", save_all=True, append_images=frames),
        ),
        Sample("GIF, grey, interlaced", save(_GREY, "GIF", interlace=1)),
        Sample("GIF, a table in the frame", _gif_with_local_table()),
        Sample("BMP, 24 bits", save(_RGB, "BMP")),
        Sample("BMP, 8 bits, grey", save(_GREY, "BMP")),
        Sample("BMP, 8 bits, palette", save(_PALETTE, "BMP")),
        Sample("BMP, 32 bits with alpha", save(_RGBA, "BMP")),
        Sample("BMP, 1 bit", save(_GREY.convert("1"), "BMP"), False, False),
        Sample("WebP", save(_RGB, "WEBP", quality=80), False),
        Sample("WebP, lossless", save(_RGB, "WEBP", lossless=True), False),
        Sample(
            "WebP, lossless with alpha",
            save(_RGBA, "WEBP", lossless=True, exact=True),
            False,
        ),
        Sample("WebP with alpha", save(_RGBA, "WEBP", quality=80), False),
        Sample("WebP, EXIF turn 6", save(_RGB, "WEBP", exif=exif(6)), False),
        Sample("WebP, animated", save(_RGB, "WEBP", **animated), False, False),
        Sample("TIFF", save(_RGB, "TIFF"), False, False),
        Sample(
            "TIFF, 16 bits of which 12 are used",
            save(Image.fromarray(wide(12, 1)[..., 0]), "TIFF"),
            False,
            False,
        ),
        Sample("JPEG 2000", save(_RGB, "JPEG2000"), False, False),
    ]
    assert smaller.size < _PALETTE.size
    return tuple(found)


def reference(content: bytes) -> np.ndarray:
    """Returns `[height, width, 3] uint8` by Pillow and NumPy alone."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        found = Image.Exif()
        found.load(image.info.get("exif", b""))
        if content[:4] == b"\x89PNG" and content[24] == 16:
            return _wide_reference(content)
        if image.mode == "I;16":
            return _on_white(np.asarray(image)[..., None].astype(np.int64))
        turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1),
            6: lambda a: a[::-1].swapaxes(0, 1),
            7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: a[:, ::-1].swapaxes(0, 1),
        }
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        pixels = np.asarray(image.convert("RGB"))
        turn = turns.get(found.get(0x0112, 1))
        return pixels if turn is None else turn(pixels)


def _wide_reference(content: bytes) -> np.ndarray:
    """Returns the pixels of a file that `png` wrote."""
    width, height, _, color_type = struct.unpack(">IIBB", content[16:26])
    num_channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    at = content.index(b"IDAT")
    (size,) = struct.unpack(">I", content[at - 4 : at])
    raw = zlib.decompress(content[at + 4 : at + 4 + size])
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)[:, 1:]
    values = rows.copy().view(">u2").reshape(height, width, num_channels)
    return _on_white(values.astype(np.int64))


def _on_white(values: np.ndarray) -> np.ndarray:
    """Returns 8-bit colours of 1 to 4 channels of 16 bits."""
    num_colors = 3 if values.shape[-1] >= 3 else 1
    colors, alpha = values[..., :num_colors], values[..., num_colors:] // 257
    white = next(w for w in (255, 4095, 65535) if colors.max() <= w)
    colors = colors * 255 // white
    if alpha.size:
        colors = np.rint((colors * alpha + 255 * (255 - alpha)) / 255)
    return np.broadcast_to(colors, (*colors.shape[:2], 3)).astype(np.uint8)


def table() -> str:
    """Returns the table of docs/pictures.md."""
    rows = ["| file | `prepare`, `predict` | served | served with `--webp` |"]
    rows.append("|---|---|---|---|")
    said = {True: "the same pixels", False: "refused"}
    for sample in samples():
        rows.append(
            f"| {sample.kind} | read | {said[sample.served]} | "
            f"{said[sample.served or sample.webp]} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
