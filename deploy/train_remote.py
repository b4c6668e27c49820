"""Train a recipe on the cluster, from here: launch the run, follow it, say how it ended.

    python -m deploy.train_remote fedavg-lr

The run is one of Dagster's, seen in its UI as well; ending this command does not end the run. Exit
code 0 if the run succeeded, 1 if it did not or could not be launched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.dagster_api import Dagster, Straight, Way
from deploy.errors import DeploymentError
from deploy.forward import Forward
from fl_assets.errors import FlAssetsError

NAMESPACE, SERVICE, PORT = "mlops", "dagster-dagster-webserver", 3000
"""Of Dagster's web server, as helm-values/dagster.yaml has it."""


class RunFailedError(DeploymentError):
    """The run ended otherwise than well."""

    def __init__(self, run: str, outcome: str) -> None:
        super().__init__(
            f"run {run} ended as {outcome}: what failed is said above, and in Dagster's UI with "
            "every log; docs/deployment.md says what the words mean"
        )


def train(dagster: Dagster, recipe: str, *, fresh: bool = False) -> None:
    """Train a recipe and print what happens.

    Raises:
        DeploymentError: it could not be launched.
        RunFailedError: it did not succeed.
    """
    run = dagster.launch(recipe, fresh=fresh)
    print(f"run {run} of recipe {recipe} is launched", flush=True)
    follow(dagster, run)


def follow(dagster: Dagster, run: str) -> None:
    """Print what happens in a run until it has ended.

    Raises:
        DeploymentError: there is no such run.
        RunFailedError: it did not succeed.
    """
    try:
        for line in dagster.follow(run):
            print(f"{line.step or 'run'}: {line.text}", flush=True)
    except KeyboardInterrupt:
        print(
            f"\nrun {run} goes on; `python -m deploy.train_remote --run {run}` follows it again",
            file=sys.stderr,
        )
        raise
    if dagster.outcome != "SUCCESS":
        raise RunFailedError(run, dagster.outcome)
    print(f"run {run} succeeded")


@contextmanager
def way_to_dagster(url: str | None, namespace: str = NAMESPACE) -> Iterator[Way]:
    """Yield a way to the web server: the URL, or a forwarded port if there is none.

    Raises:
        DeploymentError: the port cannot be forwarded.
    """
    if url is not None:
        yield Straight(url.rstrip("/"))
        return
    with Forward(namespace, SERVICE, PORT) as forward:
        yield forward


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("recipe", nargs="?", help="name of a recipe that the deployed image has")
    what.add_argument("--run", help="follow this run instead of launching one")
    parser.add_argument("--fresh", action="store_true", help="begin at the first round")
    parser.add_argument("--url", help="of Dagster's web server; a port is forwarded if absent")
    parser.add_argument("--namespace", default=NAMESPACE, help="of Dagster's web server")
    given = parser.parse_args()
    try:
        with way_to_dagster(given.url, given.namespace) as way:
            if given.run:
                follow(Dagster(way), given.run)
            else:
                train(Dagster(way), given.recipe, fresh=given.fresh)
    except FlAssetsError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
