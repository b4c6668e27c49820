"""Where the public data set's bytes come from: a local file, Kaggle, or the generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fl_assets.cohorts import kaggle
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError

SYNTHETIC = "synthetic"
KAGGLE = "kaggle"


class SourceFileError(BadDataError):
    """The local file that was named cannot be the data set."""


class NoKaggleSourceError(BadDataError):
    """The cohort does not say where it is on Kaggle."""


@dataclass(frozen=True)
class RawFile:
    """A data set as it arrived.

    Attributes:
        name: of the file.
        data: its bytes.
        origin: for people.
        sha256: of the bytes, hexadecimal.
    """

    name: str
    data: bytes = field(repr=False)
    origin: str
    sha256: str


def fetch(source: str, spec: CohortSpec, rows: int, seed: int) -> RawFile:
    """Get the cohort's public data set.

    Args:
        source: ``synthetic``, ``kaggle``, or the path of a local file.
        spec: the cohort.
        rows: how many synthetic rows.
        seed: of the synthetic generator.

    Raises:
        SourceFileError: there is no such file, or it cannot be the data set.
        NoKaggleSourceError: the cohort is not on Kaggle.
        kaggle.KaggleCredentialsMissingError: found before anything is asked of Kaggle.
        kaggle.KaggleDownloadError: Kaggle refused, failed or could not be reached.
    """
    if source == SYNTHETIC:
        return _generate(spec, rows, seed)
    if source == KAGGLE:
        return _download(spec)
    path = Path(source)
    return _raw(path.name, read_file(path), str(path))


def _raw(name: str, data: bytes, origin: str) -> RawFile:
    return RawFile(name, data, origin, hashlib.sha256(data).hexdigest())


def _generate(spec: CohortSpec, rows: int, seed: int) -> RawFile:
    from fl_assets.cohorts.synthetic import generate
    from fl_assets.cohorts.writer import write_file

    random = np.random.default_rng(seed)
    data = write_file(generate(spec, rows, seed), spec, random)
    origin = f"synthetic generator, {rows} rows, seed {seed}"
    return _raw(f"{spec.name}-synthetic.csv", data, origin)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        SourceFileError: it is missing, a folder, unreadable or empty.
    """
    if path.is_dir():
        raise SourceFileError(f"{path} is a folder; name the file in it")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SourceFileError(
            f"{path} cannot be read ({error.strerror}); check the path. A data source is "
            f"{SYNTHETIC}, {KAGGLE} or the path of a file"
        ) from error
    if not stream.peek(1):
        stream.close()
        raise SourceFileError(f"{path} is empty; download or export it again")
    return stream


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        SourceFileError: as of :func:`open_file`.
    """
    with open_file(path) as stream:
        return stream.read()


def _download(spec: CohortSpec) -> RawFile:
    if spec.kaggle is None:
        raise NoKaggleSourceError(
            f"cohort {spec.name} names no data set on Kaggle; add kaggle: to its YAML, or use "
            f"DATA={SYNTHETIC} or DATA=path"
        )
    handle, file = spec.kaggle.handle, spec.kaggle.file
    return _raw(file, kaggle.download(handle, file), f"Kaggle data set {handle}, file {file}")
