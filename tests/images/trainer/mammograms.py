"""Small mammograms in files of all kinds, for tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from images.trainer import records, splits

HEIGHT, WIDTH = 64, 48


def film(seed: int, mirrored: bool = False, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A film of 16 bits that no other seed gives, light on the left unless mirrored."""
    random = np.random.default_rng(seed)
    fading = np.linspace(40_000, 2_000, width)[np.newaxis]
    greys = (fading + random.integers(0, 20_000, (height, width))).astype(np.uint16)
    return greys[:, ::-1].copy() if mirrored else greys


def png(greys: np.ndarray) -> bytes:
    """A PNG file of uint8 or uint16 greys."""
    file = io.BytesIO()
    Image.fromarray(greys).save(file, "PNG")
    return file.getvalue()


def dicom(
    greys: np.ndarray, syntax: str = "1.2.840.10008.1.2.1", shown: str = "MONOCHROME2", bits: int = 0, frames: int = 1
) -> bytes:
    """A DICOM file of greys as they are; before them are sequences of both kinds, with rows of their own inside."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3"
    meta.TransferSyntaxUID = syntax
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID, found.PatientID = meta.MediaStorageSOPClassUID, "1.2.3", "P_00001"
    referenced, icon = Dataset(), Dataset()
    referenced.Rows, referenced.Columns = 7, 9
    referenced.is_undefined_length_sequence_item = True
    found.ReferencedImageSequence = Sequence([referenced])
    found["ReferencedImageSequence"].is_undefined_length = True
    icon.Rows, icon.Columns = 3, 3
    found.IconImageSequence = Sequence([icon])
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, shown
    found.Rows, found.Columns = greys.shape
    found.BitsAllocated = 8 * greys.dtype.itemsize
    found.BitsStored = bits or found.BitsAllocated
    found.HighBit, found.PixelRepresentation = found.BitsStored - 1, int(greys.dtype.kind == "i")
    if frames > 1:
        found.NumberOfFrames = frames
    found.PixelData = greys.tobytes() * frames
    file = io.BytesIO()
    found.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(examples: Path, split: str = "*") -> list[dict[str, Any]]:
    """The examples of a split, or of all, as stored."""
    shards = sorted(shard for name in splits.SPLITS for shard in (examples / name).glob("*") if split in ("*", name))
    return [example for shard in shards for example in records.read(shard.read_bytes())]
