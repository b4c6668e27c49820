"""Write the made-up uploads of ``examples/heart``: ``python tools/heart_uploads.py``."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.cohorts.writer import write_file

EXAMPLE = Path(__file__).parents[1] / "examples" / "heart"
HEALTHY_AT_CLINIC = 5


def main() -> None:
    """Draw every hospital's patients and write them, each in another kind of file."""
    spec = load_cohort("cohort.yaml", EXAMPLE)
    folder = EXAMPLE / "uploads"
    north, south = _file(spec, generate(spec, 303, 1), 1), _file(spec, generate(spec, 294, 2), 2)
    (folder / "north.data").write_bytes(north)
    (folder / "south.csv").write_bytes(south.replace(b",", b";").replace(b"\n", b"\r\n"))
    packed = gzip.compress(_file(spec, _nearly_all_ill(spec, 200), 3), mtime=0)
    (folder / "clinic.csv.gz").write_bytes(packed)
    (folder / "practice.csv").write_bytes(_file(spec, generate(spec, 30, 4), 4))


def _file(spec: CohortSpec, frame: pd.DataFrame, seed: int) -> bytes:
    return write_file(frame, spec, np.random.default_rng(seed))


def _nearly_all_ill(spec: CohortSpec, rows: int) -> pd.DataFrame:
    """Draw patients as a referral centre sees them."""
    drawn = generate(spec, 4 * rows, 3)
    ill = drawn[spec.label.column] == "1"
    healthy = drawn[~ill][:HEALTHY_AT_CLINIC]
    return pd.concat([drawn[ill][: rows - len(healthy)], healthy]).sort_index()


if __name__ == "__main__":
    main()
