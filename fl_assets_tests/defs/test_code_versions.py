"""Changed code that makes a hospital's data has a new code version, or changes no data."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import dagster as dg
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

import fl_assets
from fl_assets.definitions import build
from fl_assets.settings import Settings

# What decides on the content that an asset's data version stands for.
MODULES = {
    "hospital_records": (
        "cohorts/contract", "cohorts/delimited", "cohorts/formats", "cohorts/meanings",
        "cohorts/parquet", "cohorts/reader", "cohorts/row_ids", "cohorts/screen",
        "cohorts/spellings", "site/duplicates", "site/erased_rows", "site/gathering",
        "site/intake", "site/rows", "site/upload_rows", "site/uploads",
    ),
    "hospital_partitions": ("site/partitions", "site/rows"),
    "hospital_profile": (
        "privacy/noise", "privacy/noised_counts", "site/noised_release", "site/profile",
        "site/profile_sums", "site/profile_tally",
    ),
}  # fmt: skip
WHAT_TO_DO = (
    "the code that makes these data has changed. If other data come out of the same uploads, count "
    "up the first number of the asset's code_version in fl_assets/defs/hospitals.py, so that every "
    "hospital's is made anew; in either case then record it: "
    "pytest fl_assets_tests/defs/test_code_versions.py --snapshot-update"
)


def digest(module: str) -> str:
    """Return a hash of a module's code; comments and docstrings may change."""
    tree = ast.parse((Path(fl_assets.__file__).parent / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def test_code_and_code_versions_are_the_recorded_ones(
    world: Settings, snapshot: SnapshotAssertion
) -> None:
    graph = build(world).resolve_asset_graph()
    found = {
        asset: {
            "code_version": str(graph.get(dg.AssetKey(asset)).code_version).split(".")[0],
            "modules": {module: digest(module) for module in modules},
        }
        for asset, modules in MODULES.items()
    }
    assert found == snapshot(extension_class=JSONSnapshotExtension), WHAT_TO_DO
