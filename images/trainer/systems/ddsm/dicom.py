"""Mammograms in DICOM files, as greys of 16 bits.

Source: DICOM PS3.3 C.7.6.3, Image Pixel Module (dicom.nema.org).
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from images.executor import UserError
from images.trainer.candidates import Rejection
from images.trainer.pictures import Deep, check_size

PREFIX, PREAMBLE = b"DICM", 128
HIGHEST = 65535
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""The transfer syntaxes that the served graph reads: little endian, uncompressed, with implicit and explicit types."""


def is_dicom(data: bytes) -> bool:
    """Whether a file says that it is DICOM."""
    return data[PREAMBLE : PREAMBLE + len(PREFIX)] == PREFIX


def is_plain(data: bytes) -> bool:
    """Whether the served graph reads a DICOM file, which has been decoded before, as it is."""
    import pydicom

    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID) in PLAIN


def decode_deep(data: bytes) -> Deep:
    """Decodes a file of one grey image, uncompressed or in RLE, JPEG 2000 or JPEG of 8 bits.

    The stored values are taken as they are: windows and look-up tables, which are for the eye, are not applied. What
    MONOCHROME1 shows inverted is inverted.

    Args:
        data: the file's bytes, trusted for nothing.

    Returns:
        Greys of 16 bits: 0 and 65535 are the lowest and the highest value that its bits can store.

    Raises:
        Rejection: the file is damaged, holds no single grey image, or is compressed in a way that neither NumPy nor
            Pillow decodes.
        UserError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UserError("DICOM files need pydicom; install it with pip install pydicom") from None
    check_size(data)
    try:
        found = pydicom.dcmread(io.BytesIO(data))
        shown, samples = str(found.get("PhotometricInterpretation", "")), int(found.get("SamplesPerPixel", 1))
        bits, signed = int(found.BitsStored), bool(found.PixelRepresentation)
        if shown not in ("MONOCHROME1", "MONOCHROME2") or samples != 1 or int(found.get("NumberOfFrames", 1) or 1) != 1:
            raise Rejection("DICOM file without one grey image", shown)
        check_size(data, int(found.Rows) * int(found.Columns))
    except Rejection:
        raise
    except Exception as error:  # Damaged files make parsers raise almost anything.
        raise Rejection("damaged DICOM file", _first_line(error)) from error
    try:
        values = np.asarray(found.pixel_array)
    except (RuntimeError, NotImplementedError) as error:
        name = getattr(found.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        hint = "store it uncompressed, in RLE or as JPEG 2000"
        raise Rejection("DICOM encoding that cannot be read here", f"{name}; {hint}") from error
    except Exception as error:
        raise Rejection("damaged DICOM file", _first_line(error)) from error
    greys = _scaled(values, bits, signed)
    image = Image.fromarray((HIGHEST - greys if shown == "MONOCHROME1" else greys).astype(np.float32))
    return Deep(image, HIGHEST)


def _scaled(values: npt.NDArray[np.generic], bits: int, signed: bool) -> npt.NDArray[np.uint16]:
    lowest = -(1 << (bits - 1)) if signed else 0
    greys = np.clip(values.astype(np.int64) - lowest, 0, (1 << bits) - 1)
    scaled: npt.NDArray[np.uint16] = ((greys * HIGHEST + ((1 << bits) - 1) // 2) // ((1 << bits) - 1)).astype(np.uint16)
    return scaled


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
