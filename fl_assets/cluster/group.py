"""Jobs over several namespaces that are started, watched and removed as one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from fl_assets.cluster.api import ClusterApi, ClusterApiError, Manifest
from fl_assets.cluster.failures import (
    JobState,
    Trouble,
    is_running,
    job_state,
    trouble,
    why_ended,
    why_failed,
)
from fl_assets.cluster.manifests import GROUP_LABEL, PodJob, job_manifest
from fl_assets.consortium import Cluster
from fl_assets.errors import FlAssetsError

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks
_PATIENCE = 0.05  # of the time waited so far; what takes hours need not be seen within a second
_GONE_SECONDS = 60.0  # for pods to end; a node that is away takes longer than anybody should wait
_LATE_SECONDS = 60.0  # that Kubernetes may be late with a deadline of its own


class JobFailedError(FlAssetsError):
    """A Job of a group that did not start or did not end well.

    Attributes:
        job: what was to be done.
    """

    def __init__(self, job: PodJob, why: str) -> None:
        whose = "the coordinator's" if job.hospital is None else f"{job.hospital}'s"
        super().__init__(f"{whose} {job.component} pod in namespace {job.namespace}: {why}")
        self.job = job


class Group:
    """A group of Jobs, for as long as the context lasts.

    All that has the group's label is removed when the context begins, for an attempt before may
    have died, and when it ends, however that comes: by an error, a cancelled run, a deadline.

    Args:
        api: of the cluster.
        cluster: deadlines, node pools and namespaces.
        name: of :func:`fl_assets.cluster.manifests.group_name`.
        namespaces: where it may have Jobs.
    """

    def __init__(
        self, api: ClusterApi, cluster: Cluster, name: str, namespaces: Iterable[str]
    ) -> None:
        self.api = api
        self.name = name
        self._cluster = cluster
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._selector = f"{GROUP_LABEL}={name}"
        self._members: dict[tuple[str, str], _Member] = {}

    def __enter__(self) -> Self:
        """Remove what an attempt before has left.

        Raises:
            ClusterApiError: the API server refused.
        """
        self._remove()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything; what cannot be removed is logged, and goes by its time to live."""
        try:
            self._remove()
        except ClusterApiError as refusal:
            log.warning("jobs of group %s may be left: %s", self.name, refusal)

    def start(self, job: PodJob, owner: Manifest | None = None) -> Manifest:
        """Start a Job; return it as the cluster has it.

        Raises:
            ClusterApiError: the API server refused.
        """
        made = self.api.create(job_manifest(self._cluster, job, owner))
        self._members[(job.namespace, job.name)] = _Member(job, made, time.monotonic())
        return made

    def wait(
        self,
        main: PodJob,
        on_failure: Callable[[JobFailedError], None] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_loss: Callable[[JobFailedError], None] = lambda _: None,
    ) -> None:
        """Wait until the main Job has ended well.

        Args:
            main: the Job whose end is the group's.
            on_failure: told of another Job that has ended badly; it may raise. Raised if None.
            on_loss: told of a pod that has ended badly, once, if its Job starts another.
            on_line: gets the lines of the main Job's log as they come; its namespace must be one
                whose logs may be read. The log is not read if None.

        Raises:
            JobFailedError: the main Job failed, or a Job did not start, in words.
            ClusterApiError: the API server refused.
        """
        watched = self._members[(main.namespace, main.name)]
        lines = None if on_line is None else _Lines(self.api, watched, on_line)
        begun = time.monotonic()
        end = begun + self._cluster.deadline_seconds + _LATE_SECONDS
        while True:
            self._look()
            if lines is not None:
                lines.read(whole=watched.state != "unfinished")
            if watched.state == "complete":
                return
            if watched.state == "failed":
                raise watched.failure()
            self._check_others(watched, on_failure, on_loss)
            if time.monotonic() > end:
                raise JobFailedError(main, "Kubernetes did not end it at its deadline")
            _pause(begun)

    def _look(self) -> None:
        """Bring what is known of each Job up to date."""
        for namespace in {member.job.namespace for member in self._members.values()}:
            jobs = self.api.jobs(namespace, self._selector)
            pods = self.api.pods(namespace, self._selector)
            found = {job["metadata"]["name"]: job for job in jobs}
            for (place, name), member in self._members.items():
                if place == namespace:
                    own = [pod for pod in pods if _is_of(pod, name)]
                    member.see(found.get(name), own)

    def _check_others(
        self,
        main: _Member,
        on_failure: Callable[[JobFailedError], None] | None,
        on_loss: Callable[[JobFailedError], None],
    ) -> None:
        for member in self._members.values():
            if member.state == "unfinished":
                self._check_start(member)
                for loss in member.new_losses():
                    on_loss(loss)
            elif member.state == "failed" and member is not main and not member.told:
                member.told = True
                if on_failure is None:
                    raise member.failure()
                on_failure(member.failure())

    def _check_start(self, member: _Member) -> None:
        """Raise if a Job's pod will not run, or not within the time to start."""
        if member.has_run:
            return
        job = member.job
        names = [job.name, *(pod["metadata"]["name"] for pod in member.pods)]
        events = [event for name in names for event in self.api.events(job.namespace, name)]
        found = trouble(member.pods, events)
        if found is not None and found.final:
            raise JobFailedError(job, found.words)
        if time.monotonic() - member.started > self._cluster.start_seconds:
            raise JobFailedError(job, self._late(found))

    def _late(self, found: Trouble | None) -> str:
        why = "nothing says why" if found is None else found.words
        return (
            f"it did not start within {self._cluster.start_seconds} s: {why} (start_seconds in "
            "consortium.yaml's `cluster`)"
        )

    def _remove(self) -> None:
        """Remove the group wherever that is possible, and wait for the end of its pods.

        Raises:
            ClusterApiError: a namespace refused, after the others have done it.
        """
        refusals: dict[str, ClusterApiError] = {}
        for namespace in self._namespaces:
            try:
                self.api.remove_jobs(namespace, self._selector)
            except ClusterApiError as refusal:
                refusals[namespace] = refusal
        self._await_end([name for name in self._namespaces if name not in refusals])
        if refusals:
            raise ClusterApiError(
                f"remove the jobs of group {self.name} in {', '.join(refusals)}",
                next(iter(refusals.values())).status,
                "; ".join(dict.fromkeys(refusal.said for refusal in refusals.values())),
            )

    def _await_end(self, namespaces: Sequence[str]) -> None:
        begun = time.monotonic()
        while left := [
            f"{namespace}/{pod['metadata']['name']}"
            for namespace in namespaces
            for pod in self.api.pods(namespace, self._selector)
        ]:
            if time.monotonic() > begun + _GONE_SECONDS:
                log.warning("pods that are told to end have not yet: %s", ", ".join(left))
                return
            _pause(begun)


class _Member:
    """What is known of a Job of the group."""

    def __init__(self, job: PodJob, made: Manifest, started: float) -> None:
        self.job = job
        self.started = started
        self.pods: list[Manifest] = []
        self.has_run = False
        self.told = False
        self._lost: set[str] = set()
        self._made = made
        self._removed = False

    @property
    def state(self) -> JobState:
        return "failed" if self._removed else job_state(self._made)

    def see(self, made: Manifest | None, pods: list[Manifest]) -> None:
        self._removed = made is None
        self._made = made or self._made
        # A pod that is gone may have said why it failed.
        now = {pod["metadata"]["name"]: pod for pod in pods}
        before = {pod["metadata"]["name"]: pod for pod in self.pods}
        self.pods = list((before | now).values())
        self.has_run = self.has_run or any(is_running(pod) for pod in pods)

    def new_losses(self) -> list[JobFailedError]:
        """Return why pods failed that another has followed, each once."""
        ends = {pod["metadata"]["name"]: why_ended(pod) for pod in self.pods[:-1]}
        new = {name: why for name, why in ends.items() if why and name not in self._lost}
        self._lost |= new.keys()
        return [JobFailedError(self.job, f"{why}; another is started") for why in new.values()]

    def failure(self) -> JobFailedError:
        if self._removed:
            return JobFailedError(self.job, "somebody removed its Job; start the run again")
        return JobFailedError(self.job, why_failed(self._made, self.pods))


class _Lines:
    """Hands on the lines of a pod's log, each once.

    The whole log is read each time: it has a line per some rounds, and so nothing is lost or told
    twice when a connection breaks.
    """

    def __init__(self, api: ClusterApi, member: _Member, on_line: Callable[[str], None]) -> None:
        self._api = api
        self._member = member
        self._on_line = on_line
        self._told = 0

    def read(self, *, whole: bool) -> None:
        if not self._member.has_run or not self._member.pods:
            return
        pod = self._member.pods[-1]["metadata"]["name"]
        lines = self._api.log(self._member.job.namespace, pod).splitlines(keepends=True)
        if not whole and lines and not lines[-1].endswith("\n"):
            lines.pop()
        for line in lines[self._told :]:
            self._on_line(line.rstrip("\n"))
        self._told = max(self._told, len(lines))


def _is_of(pod: Manifest, job: str) -> bool:
    return bool(pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") == job)


def _pause(since: float) -> None:
    waited = time.monotonic() - since
    time.sleep(min(max(_FIRST_PAUSE, _PATIENCE * waited), _LONGEST_PAUSE))
