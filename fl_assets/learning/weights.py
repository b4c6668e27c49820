"""Model weights as arrays by parameter name, and as bytes without pickles."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]


def weights_to_bytes(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Serialise weights as an uncompressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **weights)
    return buffer.getvalue()


def weights_from_bytes(data: bytes) -> Weights:
    """Undo :func:`weights_to_bytes`; never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
