"""A process that runs a job: ``python -m ... JOB FOLDER``."""

import sys
from pathlib import Path

from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.processes import ProcessesRuntime

if __name__ == "__main__":
    job = FederationJob.model_validate_json(Path(sys.argv[1]).read_text())
    ProcessesRuntime(work=Path(sys.argv[2])).run(job)
