"""The models of ``consortium.yaml``, the one file that describes a consortium."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from fl_assets.config import StrictModel
from fl_assets.errors import FlAssetsError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} must be 1 to 63 lower-case letters, digits and inner hyphens: buckets, "
            "roles, partitions and models are named by it"
        )
    return name


def _check_bucket(pattern: str) -> str:
    try:
        pattern.format(home="", hospital="")
    except (AttributeError, LookupError, ValueError):
        raise ValueError(
            f"{pattern!r} may have nothing but {{home}} and {{hospital}} in braces"
        ) from None
    return pattern


def _check_pattern(pattern: str) -> str:
    try:
        pattern.format(hospital="")
    except (AttributeError, LookupError, ValueError):
        raise ValueError(f"{pattern!r} may have nothing but {{hospital}} in braces") from None
    return pattern


Name = Annotated[str, AfterValidator(_check_name)]
BucketPattern = Annotated[str, AfterValidator(_check_bucket)]
HospitalPattern = Annotated[str, AfterValidator(_check_pattern)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PrivacyBudget(StrictModel):
    """What a hospital lets be learnt of its patients, over the whole life of its data.

    Attributes:
        epsilon, delta: cap of everything that was ever charged to its ledger, composed.
        minimum_rows: training rows below which no private run trains, whatever a recipe says.
        unprotected_runs: whether recipes without `privacy` may train too. The ledger notes each,
            and its figure then holds for the protected runs alone.
    """

    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    delta: Annotated[float, Field(gt=0, lt=1e-2)] = 1e-5
    minimum_rows: Annotated[int, Field(ge=1)] = 20
    unprotected_runs: bool = False


class IntakeRules(StrictModel):
    """When uploads are not let in.

    Attributes:
        max_quarantined: largest share of an upload's rows that may be in quarantine. Beyond it the
            upload blocks the hospital's records, and their old version stays current, until it is
            corrected or taken back.
        max_lost: largest share of the rows accepted under an upload's name that may be missing when
            it is replaced, which a transfer that broke off at a line end looks like. Beyond it the
            upload blocks likewise. An upload that is deleted takes its rows with it.
    """

    max_quarantined: Fraction = 0.2
    max_lost: Fraction = 0.5


class RetrainingPolicy(StrictModel):
    """When new data lead to a new training of the routine recipes.

    Attributes:
        min_new_rows: share of new training rows over all hospitals, beside those that the last
            model of the recipe was trained on, from which it is trained anew.
        max_age_days: age of that model from which it is trained anew if anything has changed; none
            if None.
    """

    min_new_rows: Annotated[float, Field(gt=0)] = 0.1
    max_age_days: Annotated[float, Field(gt=0)] | None = None


class Hospital(StrictModel):
    """One member of the consortium.

    Attributes:
        name: lower-case letters, digits and hyphens; becomes bucket, role and partition name.
        title: what people call it.
        bucket: where its site store is; the consortium's pattern unless given.
        role: ARN of the AWS role that its own code takes; the consortium's pattern unless given.
        kms_key: ARN or alias of the key that its objects are encrypted with; likewise.
        share: relative number of rows it gets when a public data set is dealt out (simulation).
        privacy_budget: its own; the consortium's unless given.
    """

    name: Name
    title: str = ""
    bucket: BucketPattern | None = None
    role: HospitalPattern | None = None
    kms_key: HospitalPattern | None = None
    share: Annotated[float, Field(gt=0)] = 1.0
    privacy_budget: PrivacyBudget | None = None


class SplitFractions(StrictModel):
    """How a hospital's records are dealt to train, validation and test.

    Attributes:
        salt: key of the hash that places a record; fixed for the life of the consortium.
        train, validation, test: fractions of the hash range, summing to 1.
    """

    salt: Annotated[str, Field(min_length=8)]
    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitFractions:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self


class Simulation(StrictModel):
    """How one data set is dealt out to simulated hospitals.

    Attributes:
        split: name of the non-IID split, see :mod:`fl_assets.cohorts.split`.
        seed: of the split's noise.
        alpha: concentration of the ``dirichlet`` split; small means unequal label rates.
    """

    split: Literal["demographic", "label_skew", "feature_skew", "quantity_skew", "dirichlet"] = (
        "demographic"
    )
    seed: int = 42
    alpha: Annotated[float, Field(gt=0)] = 0.5


class PromotionGates(StrictModel):
    """What a candidate must reach, or not exceed, at the hospitals to become champion.

    Attributes:
        min_auroc: mean over hospitals weighted by test rows.
        min_gain_over_age_only: same mean, minus the same mean of a model that sees age alone.
        max_ece: expected calibration error, same mean.
        min_sites: hospitals that took part in the last round.
        max_membership_auc: area under the ROC of attacks on membership, for everybody and for the
            patients of label 1: a candidate is refused where the 95 % interval of an attack lies
            above it. Chance is 0.5; a well-averaged network measured 0.64, an over-fitted one 0.94.
    """

    min_auroc: Annotated[float, Field(ge=0, le=1)] = 0.75
    min_gain_over_age_only: float = -0.01
    max_ece: Annotated[float, Field(ge=0, le=1)] = 0.05
    min_sites: Annotated[int, Field(ge=1)] = 2
    max_membership_auc: Annotated[float, Field(ge=0.5, lt=1)] = 0.65


class PodResources(StrictModel):
    """What a pod is given, which is both its request and its limit.

    Attributes:
        cpu: in Kubernetes' notation, as ``1`` or ``500m``.
        memory: likewise, as ``2Gi``.
    """

    cpu: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$")] = "1"
    memory: Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi|Ti)$")] = "2Gi"


class Toleration(StrictModel):
    """A taint of nodes that pods of a training put up with.

    Attributes:
        key, value: of the taint; any value if None.
        effect: of the taint.
    """

    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class Cluster(StrictModel):
    """How trainings and the hospitals' tasks run on Kubernetes.

    Attributes:
        namespace: of Dagster's runs and of the server of a training.
        hospital_namespace: pattern of a hospital's own namespace.
        site: of every pod of a hospital.
        server: of the server's pod.
        node_selector: labels of the nodes where such pods run; any node if empty.
        tolerations: taints of those nodes.
        deadline_seconds: after which a task of a hospital, or a whole training, is ended.
        start_seconds: for a pod to begin, images and new nodes included.
        ttl_seconds: that a finished job is kept if the run that started it could not clean up.
        retries: of a hospital's pod that ended before the training did.
    """

    namespace: Name = "federated-learning"
    hospital_namespace: HospitalPattern = "fl-{hospital}"
    site: PodResources = PodResources()
    server: PodResources = PodResources()
    node_selector: dict[str, str] = Field(default={})
    tolerations: tuple[Toleration, ...] = ()
    deadline_seconds: Annotated[int, Field(ge=1)] = 7200
    start_seconds: Annotated[int, Field(ge=1)] = 600
    ttl_seconds: Annotated[int, Field(ge=0)] = 300
    retries: Annotated[int, Field(ge=0)] = 3

    def namespace_of(self, hospital: str) -> str:
        """Return the namespace of a hospital."""
        return self.hospital_namespace.format(hospital=hospital)


class Consortium(StrictModel):
    """The whole of ``consortium.yaml``.

    Attributes:
        name: of the consortium; prefixes the registered model.
        cohort: name of a shipped cohort or path to a cohort YAML.
        simulated: whether one machine plays all hospitals; demo-only assets exist only then.
        bucket: pattern of a site bucket's URI with ``{home}`` and ``{hospital}``; every hospital
            has a bucket of its own.
        role: pattern of the ARN of the AWS role with the rights on a hospital's bucket, with
            ``{hospital}``. None where a hospital's code has its rights from its surroundings: from
            its pod's web identity, from credentials of its own.
        kms_key: pattern of the key that a hospital's objects are encrypted with (SSE-KMS); the
            bucket's default encryption if None.
        region: of the buckets; the environment's if None.
        intake: when uploads are not let in.
        retraining: when new data lead to a new training; only by hand or schedule if None.
        minimum_cell: smallest number of people a released count may stand for.
        profile_epsilon: profiles are noised with so much epsilon for each version of a hospital's
            rows, at the delta of its budget and charged to its ledger; the floor alone if None.
        privacy_budget: of every hospital that has none of its own. If None, the defaults, with
            unprotected runs in a simulated consortium alone.
        cluster: how trainings run on Kubernetes, where they do (``FLA_RUNTIME=kubernetes``).
        routine: recipes that the main job and the policy train, the others being
            experiments to run by name; all of them if None.
        hospitals: its members. A simulated consortium may give their number instead:
            ``hospitals: 100`` has hospital-001 to hospital-100 with equal shares.
    """

    name: Name
    cohort: str
    simulated: bool = False
    bucket: BucketPattern = "file://{home}/sites/{hospital}"
    role: HospitalPattern | None = None
    kms_key: HospitalPattern | None = None
    region: str | None = None
    split: SplitFractions
    intake: IntakeRules = IntakeRules()
    retraining: RetrainingPolicy | None = None
    minimum_cell: Annotated[int, Field(ge=1)] = 5
    profile_epsilon: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    privacy_budget: PrivacyBudget | None = None
    hospitals: Annotated[tuple[Hospital, ...], Field(min_length=1)]
    simulation: Simulation = Simulation()
    promotion: PromotionGates = PromotionGates()
    cluster: Cluster = Cluster()
    routine: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @field_validator("hospitals", mode="before")
    @classmethod
    def _name_virtual_ones(cls, hospitals: Any, info: ValidationInfo) -> Any:
        # To Python a bool is an int.
        if not isinstance(hospitals, int) or isinstance(hospitals, bool):
            return hospitals
        if not info.data.get("simulated", False):
            raise ValueError(
                f"{hospitals} is a number: name every hospital of a real consortium, or say "
                "`simulated: true`"
            )
        digits = len(str(hospitals))
        return [{"name": f"hospital-{k:0{digits}}"} for k in range(1, hospitals + 1)]

    @field_validator("hospitals")
    @classmethod
    def _names_are_unique(cls, hospitals: tuple[Hospital, ...]) -> tuple[Hospital, ...]:
        names = Counter(hospital.name for hospital in hospitals)
        twice = sorted(name for name, times in names.items() if times > 1)
        if twice:
            raise ValueError(f"two hospitals are named {', '.join(twice)}: names must differ")
        return hospitals

    @model_validator(mode="after")
    def _buckets_are_unique(self) -> Consortium:
        owners: dict[str, str] = {}
        for name in self.hospital_names:
            uri = self.bucket_uri(name, Path("/"))
            if uri in owners:
                raise ValueError(
                    f"{owners[uri]} and {name} share one bucket: put {{hospital}} into its pattern"
                )
            owners[uri] = name
        return self

    @property
    def hospital_names(self) -> list[str]:
        """Names in the order of the file."""
        return [hospital.name for hospital in self.hospitals]

    def hospital(self, name: str) -> Hospital:
        """Return the hospital of that name.

        Raises:
            UnknownHospitalError: there is none.
        """
        for hospital in self.hospitals:
            if hospital.name == name:
                return hospital
        raise UnknownHospitalError(name, self.hospital_names)

    def budget(self, name: str) -> PrivacyBudget:
        """Return the privacy budget of a hospital.

        Raises:
            UnknownHospitalError: there is none of that name.
        """
        own = self.hospital(name).privacy_budget or self.privacy_budget
        return own or PrivacyBudget(unprotected_runs=self.simulated)

    @property
    def budgets(self) -> dict[str, PrivacyBudget]:
        """Privacy budget of every hospital, by name."""
        return {name: self.budget(name) for name in self.hospital_names}

    def role_of(self, name: str) -> str | None:
        """Return the ARN of the role that a hospital's code takes, if it takes one.

        Raises:
            UnknownHospitalError: there is none of that name.
        """
        return _of(self.hospital(name).role or self.role, name)

    def kms_key_of(self, name: str) -> str | None:
        """Return the key that a hospital's objects are encrypted with, if one is named.

        Raises:
            UnknownHospitalError: there is none of that name.
        """
        return _of(self.hospital(name).kms_key or self.kms_key, name)

    def bucket_uri(self, name: str, home: Path) -> str:
        """Return the URI of a hospital's site store, ``home`` being the data folder."""
        pattern = self.hospital(name).bucket or self.bucket
        return pattern.format(home=quote(str(home.resolve())), hospital=name)


def _of(pattern: str | None, name: str) -> str | None:
    return None if pattern is None else pattern.format(hospital=name)


class UnknownHospitalError(FlAssetsError):
    """A name that is not in ``consortium.yaml``."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"no hospital is named {name!r}; consortium.yaml has {', '.join(known)}: add it there "
            "or correct the name"
        )
