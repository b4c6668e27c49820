"""Federated training on Flower: recipes, server and client apps, strategies, runtimes."""

import os

# Read when Flower is imported. Nothing about a hospital's runs goes to a third party.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
