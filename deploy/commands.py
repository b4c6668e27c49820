"""Programs that the deployment calls, or only names in a dry run."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from deploy.errors import DeploymentError


class Commands:
    """Calls programs.

    Args:
        dry: say what would be called, and call nothing.
    """

    def __init__(self, *, dry: bool = False) -> None:
        self.dry = dry

    def run(self, command: Sequence[str], given: str | None = None) -> str:
        """Call a program and return its output; in a dry run nothing.

        Args:
            command: the program and its arguments, which others can see and are shown: no secret.
            given: what it reads, which may be one.

        Raises:
            DeploymentError: it is not there, or failed, in its own words.
        """
        print(f"+ {shlex.join(command)}", flush=True)
        if self.dry:
            return ""
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise DeploymentError(f"there is no `{command[0]}` on the PATH: install it") from None
        if done.returncode:
            # Without what it printed as its answer, which may be a secret.
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise DeploymentError(f"`{shlex.join(command[:4])} ...` failed: {said}")
        return done.stdout
