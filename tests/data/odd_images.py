"""Image files of the kinds that people have, and that somebody may have made: what is right of them, or that they are refused."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy
from PIL import Image, PngImagePlugin

ORIENTATION = 0x0112
LEFT_HALF = numpy.array([[200, 200, 0, 0]] * 4, numpy.uint8)
"""Light on the left, dark on the right."""
Content = Callable[[Path], None]
"""Writes the file."""


def saved(array: numpy.ndarray, mode: str | None = None, **options: object) -> Content:
    return lambda path: (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(
        path, **options
    )


def raw(content: bytes) -> Content:
    return lambda path: path.write_bytes(content) and None


def cut(write: Content, share: float) -> Content:
    """The beginning of what another one writes."""

    def make(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return make


def turned(orientation: int, format: str, array: numpy.ndarray = LEFT_HALF) -> Content:
    """As a camera writes it that was held so that what it saw as ``array`` must be turned."""
    options: dict = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(format, {})
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(array, exif=exif, format=format, **options)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file, whatever its fields say; ``chunks`` stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def rows_of(values: numpy.ndarray) -> bytes:
    """Unfiltered, compressed rows of a PNG."""
    return zlib.compress(b"".join(b"\x00" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values))


def with_alpha(alpha: int) -> numpy.ndarray:
    pixels = numpy.full((4, 4, 4), 100, numpy.uint8)
    pixels[..., 3] = 255
    pixels[0, 0, 3] = alpha
    return pixels


def palette(transparent: bool, format: str) -> Content:
    def make(path: Path) -> None:
        image = Image.fromarray(numpy.array([[0, 1] * 2] * 4, numpy.uint8), "L").convert("P")
        image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
        image.save(path, format=format, **({"transparency": 1} if transparent else {}))

    return make


def text_bomb(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2**22, zip=True)
    Image.fromarray(LEFT_HALF).save(path, pnginfo=info)


DEEP = numpy.array([[4095, 4095, 0, 0]] * 4, numpy.uint16)
"""12 bits in 16."""
LARGE_BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
SIDES = struct.pack("<HH", 65535, 65535)
LARGE_GIF = b"GIF89a" + SIDES + bytes(3) + b"," + bytes(4) + SIDES + b"\x00\x08\x01\x00\x00;"
ZEROS = zlib.compress(bytes(2**24))
RIGHT: dict[str, tuple[str, Content, list[int]]] = {
    "grey": ("png", saved(LEFT_HALF), [200, 0]),
    "16 bits": ("png", saved(numpy.array([[51200, 51200, 0, 0]] * 4, numpy.uint16)), [200, 0]),
    "16 bits, tiff": ("tif", saved(numpy.array([[51200, 51200, 0, 0]] * 4, numpy.uint16)), [200, 0]),
    "16 bits, all black": ("png", saved(numpy.zeros((4, 4), numpy.uint16)), [0, 0]),
    "12 bits that say so": ("pgm", raw(b"P5 4 4 4095\n" + DEEP.astype(">u2").tobytes()), [255, 0]),
    "1 bit": ("png", saved(LEFT_HALF > 100), [255, 0]),
    "palette": ("png", palette(False, "PNG"), [76, 29]),
    "gif": ("gif", palette(False, "GIF"), [76, 29]),
    "opaque alpha": ("png", saved(with_alpha(255)), [100, 100]),
    "cmyk": ("tif", lambda path: Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(path), [255, 255]),
    "jpeg": ("jpg", saved(numpy.full((4, 4, 3), 90, numpy.uint8), quality=100), [90, 90]),
    "turned by 180": ("png", turned(3, "PNG"), [0, 200]),
    "mirrored": ("png", turned(2, "PNG"), [0, 200]),
    "turned by 90": ("png", turned(6, "PNG", LEFT_HALF.T.copy()), [0, 200]),
    "turned by 270": ("tif", turned(8, "TIFF", LEFT_HALF.T.copy()), [200, 0]),
    "turned, jpeg": ("jpg", turned(3, "JPEG", numpy.full((4, 4), 50, numpy.uint8)), [50, 50]),
    "turned, webp": ("webp", turned(3, "WEBP"), [0, 200]),
    "no orientation": ("png", turned(1, "PNG"), [200, 0]),
    "impossible orientation": ("png", turned(77, "PNG"), [200, 0]),
    "more rows than it says": (
        "png",
        raw(png(4, 4, 8, 0, zlib.compress(b"\x00\xc8\xc8\x00\x00" * 4 + bytes(2**22)))),
        [200, 0],
    ),
}
"""By what they are: the ending, the file, and the left and right upper pixel as grey."""
REFUSED: dict[str, tuple[str, Content]] = {
    "a named pipe": ("png", lambda path: os.mkfifo(path)),
    "a folder": ("png", lambda path: path.mkdir()),
    "a device": ("png", lambda path: path.symlink_to("/dev/zero")),
    "a link to nowhere": ("png", lambda path: path.symlink_to("nowhere")),
    "a link to itself": ("png", lambda path: path.symlink_to(path.name)),
    "an empty file": ("png", raw(b"")),
    "a text": ("jpg", raw(b"hello")),
    "half a png": ("png", cut(saved(LEFT_HALF), 0.7)),
    "half a jpeg": ("jpg", cut(saved(numpy.arange(3072, dtype=numpy.uint8).reshape(32, 32, 3)), 0.5)),
    "half a gif": ("gif", cut(palette(False, "GIF"), 0.3)),
    "half a bmp": ("bmp", cut(saved(LEFT_HALF), 0.9)),
    "half a tiff": ("tif", cut(saved(LEFT_HALF), 0.5)),
    "half a webp": ("webp", cut(saved(LEFT_HALF), 0.5)),
    "half a header": ("png", raw(png(4, 4, 8, 0, rows_of(LEFT_HALF))[:20])),
    "a large header": ("png", raw(png(50_000, 50_000, 8, 2, ZEROS))),
    "a larger header": ("png", raw(png(2**31 - 1, 2**31 - 1, 8, 0, ZEROS))),
    "a header of 80 megapixels": ("png", raw(png(10_000, 8_000, 8, 0, ZEROS))),
    "a large pgm": ("pgm", raw(b"P5 60000 60000 255\n")),
    "a large bmp": ("bmp", raw(LARGE_BMP)),
    "a large gif": ("gif", raw(LARGE_GIF)),
    "a header of no pixels": ("png", raw(png(0, 0, 8, 0, ZEROS))),
    "a large text": ("png", text_bomb),
    "a large profile": (
        "png",
        raw(png(4, 4, 8, 2, zlib.compress(bytes(52)), (b"iCCP", b"x\x00\x00" + zlib.compress(bytes(2**25))))),
    ),
    "no such depth": ("png", raw(png(4, 4, 3, 0, rows_of(LEFT_HALF)))),
    "broken sums": ("png", raw(png(4, 4, 8, 0, rows_of(LEFT_HALF)).replace(b"IDAT", b"IDAQ"))),
    "transparent": ("png", saved(with_alpha(0))),
    "translucent": ("png", saved(with_alpha(254))),
    "transparent grey": ("png", saved(with_alpha(10)[..., 2:].copy(), "LA")),
    "transparent palette": ("png", palette(True, "PNG")),
    "transparent gif": ("gif", palette(True, "GIF")),
    "transparent colour": ("png", lambda path: Image.new("RGB", (4, 4), (1, 2, 3)).save(path, transparency=(1, 2, 3))),
    "transparent webp": ("webp", saved(with_alpha(0), lossless=True)),
    "12 bits in 16": ("png", saved(DEEP)),
    "12 bits in 16, tiff": ("tif", saved(DEEP)),
    "10 bits in 16": ("png", saved((DEEP // 4).astype(numpy.uint16))),
    "14 bits in 16": ("png", saved((DEEP * 4).astype(numpy.uint16))),
    "12 bits in 16, in colour": ("png", raw(png(4, 4, 16, 2, rows_of(numpy.repeat(DEEP, 3, 1))))),
    "numbers of 32 bits": ("tif", saved(numpy.full((4, 4), 70_000, numpy.int32))),
    "numbers with a point": ("tif", saved(numpy.full((4, 4), 0.5, numpy.float32))),
}
"""By what they are: the ending, and the file."""

ZIPPED = {
    "a gzip bomb": lambda: gzip.compress(bytes(2**20), 1) * 100,
    "half a gzip file": lambda: gzip.compress(bytes(1000))[:15],
    "no gzip file": lambda: b"hello",
}
"""What may stand in the place of a zipped IDX file."""
