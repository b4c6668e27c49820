"""The preprocessors of the consortium, from its cohort and the hospitals' profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.features import MomentsUnavailableError, Preprocessor
from fl_assets.settings import Settings
from fl_assets.site.pooling import pooled, simulated_stores
from fl_assets.site.profile import HospitalProfile, load_profile, pool_moments
from fl_assets.storage import SiteStore

KEY = "preprocessor/current.json"


class NoProfileError(FlAssetsError):
    """No hospital has a profile yet."""

    def __init__(self) -> None:
        super().__init__(
            "no hospital has a profile yet: upload a file by `fla upload HOSPITAL FILE`, then "
            "materialise hospital_profile, as `fla demo` does"
        )


class Preprocessors(StrictModel):
    """Every kind a recipe may ask for.

    Attributes:
        public: by the cohort's published constants.
        moments: by the moments that hospitals release, pooled; None where a column has none.
        withheld: number columns without moments of any hospital.
        profiles: version of each profile that went in, by hospital.
    """

    public: Preprocessor
    moments: Preprocessor | None
    withheld: tuple[str, ...] = ()
    profiles: dict[str, str]

    @property
    def version(self) -> str:
        """Content hash over all kinds, 12 hex digits."""
        parts = self.public.version + (self.moments.version if self.moments else "")
        return hashlib.sha256(parts.encode()).hexdigest()[:12]

    def of(self, recipe: Recipe) -> Preprocessor:
        """Return the preprocessor of a recipe: of its kind, with its features.

        Raises:
            MomentsUnavailableError: it asks for ``moments``, which do not exist.
            UnknownFeatureError: it weighs a feature that the cohort does not have.
        """
        if recipe.preprocessor == "public":
            return self.public.weighted(recipe.features)
        if self.moments is None:
            raise MomentsUnavailableError(", ".join(self.withheld))
        return self.moments.weighted(recipe.features)


def build_preprocessors(
    store: SiteStore, spec: CohortSpec, profiles: Mapping[str, HospitalProfile]
) -> Preprocessors:
    """Combine the profiles and store the outcome.

    Args:
        store: the coordinator's.
        spec: the cohort.
        profiles: by hospital.

    Raises:
        NoProfileError: there is none.
    """
    if not profiles:
        raise NoProfileError
    pooled_moments = pool_moments(profiles.values(), spec)
    withheld = tuple(name for name, found in pooled_moments.items() if found is None)
    built = Preprocessors(
        public=Preprocessor.public(spec),
        moments=None if withheld else Preprocessor.from_moments(spec, pooled_moments),
        withheld=withheld,
        profiles={name: profile.version for name, profile in profiles.items()},
    )
    documents.save(store, KEY, built)
    return built


def pooled_fit_error(settings: Settings, built: Preprocessors) -> float:
    """Demo only: return the largest difference from scikit-learn's fit on the pooled rows.

    A column is fitted on the rows of the hospitals that release its moments.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    from sklearn.preprocessing import StandardScaler

    stores = simulated_stores(settings, built.profiles)
    profiles = {name: load_profile(store) for name, store in stores.items()}
    differences = [0.0]
    for column, scaling in (built.moments.scalings if built.moments else {}).items():
        telling = {name: stores[name] for name, p in profiles.items() if p.moments[column]}
        values = pooled(settings.consortium, telling, "train")[[column]]
        fitted = StandardScaler().fit(values.to_numpy(dtype=np.float64))
        differences += [
            abs(float(fitted.mean_[0]) - scaling.center),
            abs(float(fitted.scale_[0]) - scaling.scale),
        ]
    return max(differences)


def load_preprocessors(store: SiteStore) -> Preprocessors:
    """Return the current preprocessors.

    Raises:
        ObjectNotFoundError: they were never built.
    """
    return documents.load(store, KEY, Preprocessors)
