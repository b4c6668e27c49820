from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image


class Shot:
    """A decoded plot."""

    def __init__(self, png: bytes) -> None:
        self.bytes = len(png)
        with Image.open(BytesIO(png)) as image:
            assert image.format == "PNG"
            self.pixels = np.asarray(image.convert("RGB")).astype(int)
        self.height, self.width, _ = self.pixels.shape

    def count(self, colour: str) -> int:
        """Pixels of about that colour."""
        wanted = np.array([round(255 * part) for part in to_rgb(colour)])
        return int((np.abs(self.pixels - wanted).max(axis=-1) < 12).sum())

    @property
    def ink(self) -> float:
        """Share of pixels that are not white."""
        return float((self.pixels < 250).any(axis=-1).mean())


@pytest.fixture
def look():
    """Decode a plot and check what is asked of every one."""

    def decode(png: bytes) -> Shot:
        shot = Shot(png)
        assert shot.bytes <= 60_000
        assert min(shot.width, shot.height) >= 130
        assert 0.003 < shot.ink < 0.9
        return shot

    return decode
