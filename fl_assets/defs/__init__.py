"""Thin Dagster definitions: assets and their checks side by side."""
