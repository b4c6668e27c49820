"""A federated-learning consortium of hospitals as a Dagster asset graph."""

__version__ = "0.1.0"
