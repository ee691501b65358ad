"""Pictures from anywhere, decoded to plain greys or colours the way the serving graph decodes them."""

from __future__ import annotations

import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from images.trainer.candidates import Rejection

MAX_BYTES = 64 << 20
MAX_PIXELS = 64_000_000

COUNTED = ("brightness", "contrast", "ink", "width", "height")
"""Names of what `counted` gives."""

ENOUGH = 500
"""Pictures of a training split that are counted: more would make ingest slower, and drift hardly plainer."""

_POWERS = np.vander(np.linspace(0, 1, 256), 3, increasing=True)  # 1, the grey, its square
_SIDE = 64  # Of a large picture so many rows and columns are counted, evenly spread.
_PNG_END = b"IEND"
_SIGNATURES = (b"\x89PNG", b"\xff\xd8")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's markers of what holds the size

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # The size is checked below, before decoding.


def decode_grey(data: bytes) -> Image.Image:
    """Decodes a PNG or JPEG file to 8-bit greyscale.

    Colour becomes (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R BT.601); 16 bits a channel keep their
    upper 8; transparency is laid over white: (grey alpha + 255 (255 - alpha)) / 255, rounded to nearest.
    Orientation and colour profiles are ignored, as `tf.io.decode_image` ignores them.

    Args:
        data: the file's bytes, trusted for nothing.

    Returns:
        An image of mode "L".

    Raises:
        Rejection: the file is empty, too large, in another format, cut short or damaged.
    """
    return _grey(_decoded(data))


def decode_colour(data: bytes) -> Image.Image:
    """Decodes a PNG or JPEG file to 8 bits of red, green and blue; transparency is laid over white.

    As `decode_grey`, channel by channel.

    Args:
        data: the file's bytes, trusted for nothing.

    Returns:
        An image of mode "RGB".

    Raises:
        Rejection: the file is empty, too large, in another format, cut short or damaged.
    """
    image = _decoded(data)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, (255, 255, 255))
        paper.paste(image.convert("RGB"), mask=image.getchannel("A"))
        return paper
    return image.convert("RGB")


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the header of a PNG or JPEG file gives, of which the beginning is enough; None if none.

    Sources: PNG specification (W3C), 11.2.1; ITU-T T.81, B.2.2.
    """
    if data.startswith(_SIGNATURES[0]) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    at = 2 if data.startswith(_SIGNATURES[1]) else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


class Deep(NamedTuple):
    """Greys of any depth.

    Attributes:
        image: of mode "F".
        highest: what white is.
    """

    image: Image.Image
    highest: int


def decode_deep(data: bytes) -> Deep:
    """Decodes a PNG or JPEG file to greys; as `decode_grey`, but what has 16 bits a pixel keeps them.

    Args:
        data: the file's bytes, trusted for nothing.

    Raises:
        Rejection: the file is empty, too large, in another format, cut short or damaged.
    """
    image = _decoded(data)
    if image.mode.startswith("I"):
        return Deep(image.convert("F"), 65535)
    return Deep(_grey(image).convert("F"), 255)


def counted(image: Image.Image, highest: int = 255) -> tuple[float, ...]:
    """What can be counted of a picture, to compare it with others.

    Args:
        image: in any mode that has greys or colours.
        highest: what white is, in mode "F".

    Returns:
        The numbers that `COUNTED` names: the mean of its greys and their standard deviation, black being 0 and white 1;
        the share of pixels on the rarer side of the middle between its darkest and its lightest grey; its width and
        its height in pixels.
    """
    width, height = image.size
    image = image.resize((min(width, _SIDE), min(height, _SIDE)), Image.Resampling.NEAREST)
    if image.mode == "F":
        greys = np.frombuffer(image.tobytes(), np.float32) * (255 / highest)
        counts = np.bincount(greys.astype(np.uint8), minlength=256).tolist()
    else:
        counts = (image if image.mode == "L" else image.convert("L")).histogram()
    pixels, total, squares = (np.array(counts, float) @ _POWERS).tolist()
    mean = total / pixels
    there = [grey for grey, count in enumerate(counts) if count]
    dark = sum(counts[: (there[0] + there[-1]) // 2 + 1]) / pixels
    deviation = max(0.0, squares / pixels - mean**2) ** 0.5
    return (mean, deviation, min(dark, 1 - dark), float(width), float(height))


def check_size(data: bytes, pixels: int = 0) -> None:
    """Raises Rejection when a file is empty, or it or its picture too large."""
    if not data:
        raise Rejection("empty file")
    if len(data) > MAX_BYTES:
        raise Rejection("image too large", f"{len(data):,} bytes, at most {MAX_BYTES:,}")
    if pixels > MAX_PIXELS:
        raise Rejection("image too large", f"{pixels:,} pixels, at most {MAX_PIXELS:,}")


def _decoded(data: bytes) -> Image.Image:
    """The picture in its own mode; raises Rejection."""
    check_size(data)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        check_size(data, image.width * image.height)
        if image.format == "PNG" and data.rfind(_PNG_END) < 0:
            raise Rejection("damaged image", "cut short")
        image.load()
        return image
    except Rejection:
        raise
    except Image.DecompressionBombError as error:
        raise Rejection("image too large", f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise Rejection("damaged image", "its header cannot be read") from error
        raise Rejection("not a PNG or JPEG image") from error
    except Exception as error:  # Damaged files make decoders raise almost anything.
        raise Rejection("damaged image", str(error)) from error


def _grey(image: Image.Image) -> Image.Image:
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("L", image.size, 255)
        paper.paste(image.convert("L"), mask=image.getchannel("A"))
        return paper
    return image.convert("RGB").convert("L")
