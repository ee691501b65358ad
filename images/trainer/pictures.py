"""Pictures from anywhere, decoded to plain greyscale the way the serving graph decodes them."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from images.trainer.candidates import Rejection

MAX_BYTES = 64 << 20
MAX_PIXELS = 64_000_000

_PNG_END = b"IEND"
_SIGNATURES = (b"\x89PNG", b"\xff\xd8")

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
    if not data:
        raise Rejection("empty file")
    if len(data) > MAX_BYTES:
        raise Rejection("image too large", f"{len(data):,} bytes, at most {MAX_BYTES:,}")
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise Rejection("image too large", f"{pixels:,} pixels, at most {MAX_PIXELS:,}")
        if image.format == "PNG" and data.rfind(_PNG_END) < 0:
            raise Rejection("damaged image", "cut short")
        image.load()
        return _grey(image)
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
