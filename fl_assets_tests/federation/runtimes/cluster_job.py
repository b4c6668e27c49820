"""The definitions of a world with a job that trains and does nothing else."""

import dagster as dg

from fl_assets.definitions import build
from fl_assets.settings import Settings

defs = dg.Definitions.merge(
    build(Settings.from_environment()),
    dg.Definitions(jobs=[dg.define_asset_job("train", selection=["federated_model"])]),
)
