"""Dagster's GraphQL API: launch a recipe's training, and follow a run to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from deploy.errors import DeploymentError
from fl_assets.defs.jobs import TRAIN_AND_PROMOTE

POLL_SECONDS = 2.0
"""Between two looks at a run."""

_TRIES = 5
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_TOLD = {
    "RUN_ENQUEUED",
    "RUN_START",
    "STEP_START",
    "STEP_SUCCESS",
    "STEP_FAILURE",
    "STEP_UP_FOR_RETRY",
    "RUN_SUCCESS",
    "RUN_FAILURE",
    "RUN_CANCELED",
}

_JOBS = """
{ repositoriesOrError { __typename
  ... on RepositoryConnection { nodes { name location { name } jobs { name } } }
  ... on PythonError { message } } }
"""
_PARTITIONS = """
query($j: PipelineSelector!) { pipelineOrError(params: $j) { __typename
  ... on Pipeline { partitionKeysOrError { partitionKeys } } } }
"""
_LAUNCH = """
mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on Error { message } } }
"""
_EVENTS = """
query($r: ID!, $c: String) { runOrError(runId: $r) { __typename
  ... on Run { status eventConnection(afterCursor: $c, limit: 500) { cursor hasMore events {
    __typename
    ... on MessageEvent { message stepKey eventType }
    ... on ExecutionStepFailureEvent { error { message causes { message } } }
    ... on RunFailureEvent { error { message } } } } } } }
"""


class Way(Protocol):
    """How the web server is reached."""

    url: str

    def renew(self) -> None:
        """Open the way anew."""


@dataclass
class Straight:
    """A web server whose URL can be used as it is."""

    url: str

    def renew(self) -> None:
        """Do nothing: there is nothing between."""


@dataclass(frozen=True)
class Line:
    """One thing that happened in a run.

    Attributes:
        step: where; of the whole run if None.
        text: in words.
    """

    step: str | None
    text: str


class Dagster:
    """A web server of Dagster.

    Args:
        way: to it.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self.outcome = ""

    def launch(self, recipe: str, *, fresh: bool = False) -> str:
        """Launch the training, evaluation and promotion of a recipe; return the run's id.

        Args:
            recipe: its name.
            fresh: begin at the first round, whatever is stored.

        Raises:
            DeploymentError: there is no such job or recipe, or Dagster refused.
        """
        selector = self._selector()
        known = self._recipes(selector)
        if recipe not in known:
            raise DeploymentError(
                f"Dagster knows no recipe {recipe!r}; it has {', '.join(known)}: correct the name, "
                "or deploy an image that has it"
            )
        config = {"ops": {"federated_model": {"config": {"fresh": True}}}} if fresh else {}
        asked = {
            "selector": selector,
            "mode": "default",
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": recipe}]},
        }
        # Not sent twice: a lost answer may hide a run that was launched.
        answer = self._query(_LAUNCH, tries=1, p=asked)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            said = answer.get("message") or "; ".join(e["message"] for e in answer["errors"])
            raise DeploymentError(f"Dagster did not launch the run: {said}")
        run: str = answer["run"]["runId"]
        return run

    def follow(self, run: str) -> Iterator[Line]:
        """Yield what happens in a run until it has ended; ``outcome`` is its status then.

        Raises:
            DeploymentError: there is no such run, or the web server does not answer.
        """
        cursor = None
        while True:
            found = self._query(_EVENTS, r=run, c=cursor)["runOrError"]
            if found["__typename"] != "Run":
                raise DeploymentError(f"Dagster has no run {run}: copy its id from the UI")
            events = found["eventConnection"]
            cursor = events["cursor"]
            yield from filter(None, map(_line, events["events"]))
            # The status may be ahead of the events that were read.
            if events["hasMore"]:
                continue
            if found["status"] in _ENDED:
                self.outcome = found["status"]
                return
            time.sleep(POLL_SECONDS)

    def _selector(self) -> dict[str, str]:
        found = self._query(_JOBS)["repositoriesOrError"]
        for repository in found.get("nodes", ()):
            if TRAIN_AND_PROMOTE in {job["name"] for job in repository["jobs"]}:
                return {
                    "repositoryLocationName": repository["location"]["name"],
                    "repositoryName": repository["name"],
                    "jobName": TRAIN_AND_PROMOTE,
                }
        raise DeploymentError(
            f"no code location of Dagster has the job {TRAIN_AND_PROMOTE}: see under Deployment in "
            "its UI why fl_assets did not load, and `kubectl -n mlops logs` of the code server"
        )

    def _recipes(self, selector: dict[str, str]) -> list[str]:
        wanted = {"pipelineName" if k == "jobName" else k: v for k, v in selector.items()}
        found = self._query(_PARTITIONS, j=wanted)["pipelineOrError"]
        keys: list[str] = found["partitionKeysOrError"]["partitionKeys"]
        return keys

    def _query(self, text: str, tries: int = _TRIES, **variables: Any) -> dict[str, Any]:
        for attempt in range(tries):
            if attempt:
                self._way.renew()
            try:
                answer = httpx.post(
                    f"{self._way.url}/graphql",
                    json={"query": text, "variables": variables},
                    timeout=60,
                )
                answer.raise_for_status()
                document = answer.json()
            except (httpx.HTTPError, ValueError) as error:
                problem: Exception = error
                continue
            if document.get("errors"):
                raise DeploymentError(f"Dagster refused: {document['errors'][0]['message']}")
            data: dict[str, Any] = document["data"]
            return data
        raise DeploymentError(
            f"Dagster's web server at {self._way.url} does not answer: {problem}; see "
            "`kubectl -n mlops get pods`"
        )


def _line(event: dict[str, Any]) -> Line | None:
    if event["__typename"] != "LogMessageEvent" and event.get("eventType") not in _TOLD:
        return None
    return Line(event.get("stepKey"), "\n".join([event["message"], *_causes(event.get("error"))]))


def _causes(error: dict[str, Any] | None) -> list[str]:
    """Return the messages of an error, the outermost first."""
    if error is None:
        return []
    return [e["message"].strip() for e in (error, *error.get("causes", ()))]
