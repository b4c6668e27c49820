"""The job controller: makes pods for jobs and says how the jobs went."""

from __future__ import annotations

import contextlib
import copy
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fl_assets_tests.cluster.fakekube.api import FINISHED, Api, Deletion
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.events import record
from fl_assets_tests.cluster.fakekube.kinds import JOB, POD, Manifest
from fl_assets_tests.cluster.fakekube.store import stamp

# Ten seconds and more in Kubernetes.
BACKOFF_SECONDS = 0.1


def run_jobs(api: Api) -> None:
    """Look after the jobs until the store closes."""
    controller = Controller(api)
    while not api.store.closed:
        for job in api.store.of_kind(JOB):
            controller.look_after(job)
        api.store.wait(0.05)


def finished(job: Manifest) -> bool:
    """Tell whether a job is complete or has failed."""
    conditions = job["status"].get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") for c in conditions)


class Controller:
    """Level-triggered: it looks at what is there, and remembers only when, by the job's uid."""

    def __init__(self, api: Api) -> None:
        self._api = api
        # Times of the status are in whole seconds, too coarse for deadlines of tests.
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        # The last phase of each pod, also of those that were removed since.
        self._phases: dict[str, dict[str, str]] = {}

    def look_after(self, job: Manifest) -> None:
        """Do what is to be done for a job now."""
        uid, spec = job["metadata"]["uid"], job["spec"]
        if job["metadata"].get("deletionTimestamp"):
            return
        if finished(job):
            self._expire(job)
            return
        pods = self._pods(job)
        active = [pod for pod in pods if pod["status"]["phase"] not in FINISHED]
        if spec["suspend"]:
            self._remove(active)
            self._started.pop(uid, None)
            self._phases.pop(uid, None)
            self._write(job, lambda status: status.pop("startTime", None), active=len(active))
            return
        started = self._started.setdefault(uid, time.monotonic())
        phases = self._observe(uid, pods)
        self._write(
            job,
            lambda status: status.setdefault("startTime", stamp()),
            active=len([p for p in active if not _going(p)]),
            terminating=len([p for p in active if _going(p)]),
            ready=len([p for p in active if p["status"]["phase"] == "Running"]),
            failed=phases.count("Failed"),
            succeeded=phases.count("Succeeded"),
        )
        late = time.monotonic() - started > spec.get("activeDeadlineSeconds", float("inf"))
        if final := _final_failure(spec, pods):
            self._fail(job, active, "PodFailurePolicy", final)
        else:
            self._proceed(job, phases, active, late)

    def _observe(self, uid: str, pods: list[Manifest]) -> list[str]:
        """Return the phase of each pod that the job ever had.

        A pod that somebody removes has failed, from the moment that it is told to go.
        """
        phases = self._phases.setdefault(uid, {})
        staying = {p["metadata"]["uid"]: p["status"]["phase"] for p in pods if not _going(p)}
        phases.update(staying)
        for pod, phase in phases.items():
            if pod not in staying and phase != "Succeeded":
                phases[pod] = "Failed"
        return list(phases.values())

    def _proceed(
        self, job: Manifest, phases: list[str], active: list[Manifest], late: bool
    ) -> None:
        spec, succeeded = job["spec"], phases.count("Succeeded")
        if late:
            message = "Job was active longer than specified deadline"
            self._fail(job, active, "DeadlineExceeded", message)
        elif phases.count("Failed") > spec["backoffLimit"]:
            message = "Job has reached the specified backoff limit"
            self._fail(job, active, "BackoffLimitExceeded", message)
        elif succeeded >= spec["completions"]:
            message = "Reached expected number of succeeded pods"
            self._end(job, "Complete", "CompletionsReached", message)
        elif len(active) < min(spec["parallelism"], spec["completions"] - succeeded):
            self._create_pod(job)

    def _pods(self, job: Manifest) -> list[Manifest]:
        meta = job["metadata"]
        pods = self._api.store.of_kind(POD, meta["namespace"])
        return [
            pod
            for pod in pods
            if any(r["uid"] == meta["uid"] for r in pod["metadata"].get("ownerReferences") or [])
        ]

    def _create_pod(self, job: Manifest) -> None:
        meta = job["metadata"]
        uid, now = meta["uid"], time.monotonic()
        if now < self._not_before.get(uid, 0):
            return
        self._not_before[uid] = now + BACKOFF_SECONDS
        template = copy.deepcopy(job["spec"]["template"])
        owner = {
            "apiVersion": JOB.api_version,
            "kind": JOB.name,
            "name": meta["name"],
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        name = f"{meta['name'][:57]}-{uuid.uuid4().hex[:5]}"
        template["metadata"] |= {"name": name, "ownerReferences": [owner]}
        try:
            self._api.create(POD, meta["namespace"], template)
        except ApiError as error:
            # Without the random name, as if the API server had not come to give one: one event
            # counts the attempts.
            text = str(error).replace(f'"{name}"', f'"{meta["name"]}-"')
            self._event(job, "FailedCreate", f"Error creating: {text}")
        else:
            self._event(job, "SuccessfulCreate", f"Created pod: {name}", "Normal")

    def _fail(self, job: Manifest, active: list[Manifest], reason: str, message: str) -> None:
        """Remove what is active, and fail the job once that has ended."""
        self._condition(job, "FailureTarget", reason, message)
        self._remove(active)
        if not active:
            self._end(job, "Failed", reason, message)

    def _remove(self, pods: list[Manifest]) -> None:
        for pod in pods:
            if not _going(pod):
                meta = pod["metadata"]
                with contextlib.suppress(ApiError):
                    self._api.delete(
                        POD, meta["namespace"], meta["name"], Deletion(uid=meta["uid"])
                    )

    def _end(self, job: Manifest, condition: str, reason: str, message: str) -> None:
        self._ended[job["metadata"]["uid"]] = time.monotonic()
        if condition == "Complete":
            self._write(job, lambda status: status.setdefault("completionTime", stamp()))
            self._event(job, "Completed", "Job completed", "Normal")
        else:
            self._event(job, reason, message)
        self._condition(job, condition, reason, message)

    def _expire(self, job: Manifest) -> None:
        meta, keep = job["metadata"], job["spec"].get("ttlSecondsAfterFinished")
        ended = self._ended.get(meta["uid"], 0)
        if keep is not None and time.monotonic() - ended >= keep:
            with contextlib.suppress(ApiError):
                self._api.delete(JOB, meta["namespace"], meta["name"], Deletion("Background"))

    def _condition(self, job: Manifest, type_: str, reason: str, message: str) -> None:
        def add(status: Manifest) -> None:
            conditions = status.setdefault("conditions", [])
            if all(known["type"] != type_ for known in conditions):
                moment = datetime.now(UTC)
                conditions.append(
                    {
                        "type": type_,
                        "status": "True",
                        "reason": reason,
                        "message": message,
                        "lastProbeTime": stamp(moment),
                        "lastTransitionTime": stamp(moment),
                    }
                )

        self._write(job, add)

    def _write(
        self, job: Manifest, alter: Callable[[Manifest], Any] = lambda _: None, **counts: int
    ) -> None:
        """Write into the status; counts of zero are left out, as Kubernetes leaves them."""

        def write(item: Manifest) -> None:
            status = item["status"]
            status.update(counts)
            for name in [n for n, count in counts.items() if not count]:
                del status[name]
            alter(status)

        self._api.store.update(job, write)

    def _event(self, job: Manifest, reason: str, message: str, type_: str = "Warning") -> None:
        record(self._api.store, job, reason, message, "job-controller", type_)


def _final_failure(spec: Manifest, pods: list[Manifest]) -> str:
    """Return which pod has failed so that its job's policy asks for no other, if one has."""
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    for pod in pods:
        if pod["status"]["phase"] != "Failed":
            continue
        for state in pod["status"].get("containerStatuses") or []:
            code, name = state["state"].get("terminated", {}).get("exitCode"), state["name"]
            for place, rule in enumerate(rules):
                codes = rule["onExitCodes"]
                if code in codes["values"] and codes.get("containerName", name) == name:
                    meta = pod["metadata"]
                    return (
                        f"Container {name} for pod {meta['namespace']}/{meta['name']} failed with "
                        f"exit code {code} matching FailJob rule at index {place}"
                    )
    return ""


def _going(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
