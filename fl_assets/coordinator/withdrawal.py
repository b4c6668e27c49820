"""A hospital leaves: its partition is closed, and no model with its data is used any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.erased import TAG as ERASED
from fl_assets.coordinator.lineage import RegisteredVersion, open_registry, registered_versions
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.federation.recipe import SUFFIX, load_recipe, recipe_names, routine_names
from fl_assets.settings import WITHDRAWN, Settings
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.tracking.models import CHAMPION, Registry

TAG = "withdrawn"


class HospitalWithdrawnError(BadDataError):
    """A hospital that has withdrawn was asked for something that only a member may do."""

    def __init__(self, hospital: str) -> None:
        super().__init__(
            f"{hospital} has withdrawn from the consortium: `fla readmit {hospital}` takes it in "
            "again, if it asks for that"
        )


class NotWithdrawnError(FlAssetsError):
    """A hospital that is a member was to be taken in again, or to delete what is in use."""

    def __init__(self, hospital: str, cure: str) -> None:
        super().__init__(f"{hospital} has not withdrawn: {cure}")


class WithdrawnDataError(BadDataError):
    """A model version with data of a hospital that has withdrawn was to be used."""

    def __init__(self, version: str, hospitals: list[str], cure: str) -> None:
        super().__init__(
            f"model version {version} was trained on data of {', '.join(hospitals)}, which "
            f"withdrew from the consortium: {cure}"
        )


class BlockedVersion(StrictModel):
    """A model version that may not be used any more.

    Attributes:
        version, recipe: of the model.
        partitions: version of the hospital's partitions in it; None where its record is lost.
        private: whether its training was differentially private.
        aliases: that pointed to it.
    """

    version: str
    recipe: str
    partitions: str | None
    private: bool
    aliases: tuple[str, ...]


class Withdrawal(StrictModel):
    """A hospital that has withdrawn, as the coordinator keeps it.

    Attributes:
        hospital: name.
        time: of the withdrawal, UTC.
        versions: blocked by it.
    """

    hospital: str
    time: datetime
    versions: tuple[BlockedVersion, ...] = ()

    @property
    def champion(self) -> str | None:
        """Version that was champion before, if the withdrawal took it."""
        return _champion(self.versions)


class Consequences(StrictModel):
    """What a withdrawal does to the others.

    Attributes:
        versions: that it blocks, with the aliases that they lose.
        staying: hospitals that are left.
        warnings: what can no longer be done with so few.
        retrain: recipes whose latest model is blocked; the routine ones are trained by `fla demo`.
        experiments: those of them that `fla run` must be asked for.
    """

    versions: tuple[BlockedVersion, ...]
    staying: tuple[str, ...]
    warnings: tuple[str, ...]
    retrain: tuple[str, ...]
    experiments: tuple[str, ...]

    @property
    def champion(self) -> str | None:
        """Version that is champion now, if it is among those that are blocked."""
        return _champion(self.versions)

    @property
    def commands(self) -> list[str]:
        """What to run for models without the hospital."""
        run = [f"fla run {' '.join(self.experiments)}"] if self.experiments else []
        return [*run, "fla demo"] if self.retrain and self.staying else []


def _champion(versions: Iterable[BlockedVersion]) -> str | None:
    return next((v.version for v in versions if CHAMPION in v.aliases), None)


def consequences(settings: Settings, hospital: str) -> Consequences:
    """Return what it would mean if a hospital withdrew, or means that it did.

    Raises:
        UnknownHospitalError: there is none of that name.
        TrackingError: MLflow failed.
    """
    settings.whole_consortium.hospital(hospital)
    staying = tuple(n for n in settings.consortium.hospital_names if n != hospital)
    blocked = tuple(
        _blocked(found, hospital)
        for found in registered_versions(open_registry(settings))
        if found.holds(hospital)
    )
    latest = {version.version: version.recipe for version in blocked if version.recipe != "unknown"}
    known = recipe_names(settings.recipes)
    retrain = tuple(sorted({recipe for recipe in latest.values() if recipe in known}))
    routine = routine_names(settings.recipes, settings.consortium.routine)
    return Consequences(
        versions=blocked,
        staying=staying,
        warnings=tuple(_warnings(settings, len(staying))),
        retrain=retrain,
        experiments=tuple(name for name in retrain if name not in routine),
    )


def _blocked(found: RegisteredVersion, hospital: str) -> BlockedVersion:
    return BlockedVersion(
        version=found.version,
        recipe=found.recipe,
        partitions=found.release.hospitals[hospital].version if found.release else None,
        private=found.private,
        aliases=found.aliases,
    )


def _warnings(settings: Settings, staying: int) -> Iterator[str]:
    asked = settings.consortium.promotion.min_sites
    if not staying:
        yield "no hospital is left: nothing can be trained"
    elif staying < asked:
        yield (
            f"{staying} hospitals are left and promotion.min_sites asks for {asked}: no model can "
            "become champion"
        )
    for name in recipe_names(settings.recipes):
        recipe = load_recipe(settings.recipes / f"{name}{SUFFIX}")
        if recipe.quorum is not None and recipe.quorum > staying:
            yield f"recipe {name} asks for a quorum of {recipe.quorum}: it cannot be trained"
        elif recipe.secure_aggregation is not None and staying < 3:
            yield f"recipe {name} masks sums, which needs three hospitals: it cannot be trained"


def withdraw(settings: Settings, hospital: str) -> Withdrawal:
    """Let a hospital leave.

    First its partition is closed, so that nothing new is trained on its data; then every model
    version that holds any version of its data is tagged and loses its aliases. Done again it
    blocks what has come since, as from a training that was under way.

    Args:
        settings: of the checkout; made anew they know that it has left.
        hospital: name.

    Raises:
        UnknownHospitalError: there is none of that name.
        TrackingError: MLflow failed; the partition is closed, and promotion refuses.
    """
    settings.whole_consortium.hospital(hospital)
    store = settings.coordinator_store()
    known = load_withdrawal(store, hospital)
    if known is None:
        known = Withdrawal(hospital=hospital, time=datetime.now(UTC))
        documents.save(store, _key(hospital), known)
    registry = open_registry(settings)
    before = {version.version: version for version in known.versions}
    versions = []
    for found in registered_versions(registry):
        if found.holds(hospital):
            _tag(registry, found, settings.withdrawn | {hospital})
            for alias in found.aliases:
                registry.remove_alias(alias)
            blocked = _blocked(found, hospital)
            lost = before[found.version].aliases if found.version in before else ()
            aliases = tuple(sorted({*blocked.aliases, *lost}))
            versions.append(blocked.model_copy(update={"aliases": aliases}))
    done = known.model_copy(update={"versions": tuple(versions)})
    documents.save(store, _key(hospital), done)
    return done


def readmit(settings: Settings, hospital: str) -> list[str]:
    """Take a hospital in again and return the versions that are not blocked any more.

    One that saw somebody who was erased is not among them: that block is another, and stays.
    Aliases are left to the next promotion.

    Raises:
        UnknownHospitalError: there is none of that name.
        NotWithdrawnError: it is a member.
        TrackingError: MLflow failed; nothing has changed that doing it again would not.
    """
    settings.whole_consortium.hospital(hospital)
    if hospital not in settings.withdrawn:
        raise NotWithdrawnError(hospital, "there is nothing to take back")
    registry = open_registry(settings)
    remaining = settings.withdrawn - {hospital}
    free = []
    for found in registered_versions(registry):
        if found.holds(hospital) and TAG in found.tags:
            _tag(registry, found, remaining)
            if ERASED not in found.tags and not any(map(found.holds, remaining)):
                free.append(found.version)
    settings.coordinator_store().delete(_key(hospital))
    return free


def _tag(registry: Registry, found: RegisteredVersion, withdrawn: frozenset[str]) -> None:
    """Tag a version with the hospitals in it that have withdrawn."""
    names = sorted(name for name in withdrawn if found.holds(name))
    registry.tag(found.version, TAG, ", ".join(names) or None)


def load_withdrawal(store: SiteStore, hospital: str) -> Withdrawal | None:
    """Return a hospital's withdrawal, None where it is a member."""
    try:
        return documents.load(store, _key(hospital), Withdrawal)
    except ObjectNotFoundError:
        return None


def champion_lost(settings: Settings) -> str | None:
    """Return why there is no champion, where a withdrawal took the last one."""
    store = settings.coordinator_store()
    for hospital in sorted(settings.withdrawn):
        withdrawal = load_withdrawal(store, hospital)
        if withdrawal is not None and withdrawal.champion is not None:
            return (
                f"version {withdrawal.champion} was champion until {hospital}, whose data is in "
                f"it, withdrew on {withdrawal.time:%Y-%m-%d}; `fla demo` trains and promotes one "
                "without it"
            )
    return None


def _key(hospital: str) -> str:
    return f"{WITHDRAWN}{hospital}.json"
