"""MLflow: runs, the served model, the registry and the release record."""
