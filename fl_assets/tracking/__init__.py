"""MLflow: runs, the served model and the registry."""

import os

# Read by MLflow when it is imported or used; whoever sets one of these outside wins.
for _name, _value in {
    # A tracking server that is down must not hold a training up for the minutes that MLflow's own
    # defaults would take.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    # Nothing about a hospital's runs goes to a third party.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # What it is doing is of no interest on our command line, what goes wrong is.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)
