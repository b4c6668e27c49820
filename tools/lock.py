"""Write the lock files: every package pinned, but not the CUDA parts of torch.

Left out, they let pip take a CPU build of torch where one is at hand; where none is, torch's own
metadata brings them in, in the versions it wants.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUDA = ("nvidia-", "cuda-", "triton")
HEADER = "# Written by `make lock` from pyproject.toml; the CUDA parts of torch are left out.\n"


def compile_lock(*options: str) -> list[str]:
    """Return the pins of a resolution, one per line."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "lock"
        subprocess.run(
            [
                sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet",
                "--python-version", "3.11", "--no-annotate", "--no-header", "--output-file",
                str(target), *options,
            ],
            cwd=ROOT,
            check=True,
        )  # fmt: skip
        return [line for line in target.read_text().splitlines() if not line.startswith(CUDA)]


def main() -> None:
    """Write both locks; the development lock agrees with the other one."""
    base = compile_lock()
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(base) + "\n")
    extras = [
        option
        for name in ("dev", "simulation", "spark", "dashboard")
        for option in ("--extra", name)
    ]
    dev = compile_lock(*extras, "--constraint", "requirements.lock")
    extra = [line for line in dev if line not in base]
    (ROOT / "requirements-dev.lock").write_text(
        HEADER + "-c requirements.lock\n" + "\n".join(extra) + "\n"
    )


if __name__ == "__main__":
    main()
