"""What the operator of a site's node says; no recipe, run or coordinator can change it."""

from __future__ import annotations

from collections.abc import Mapping

from fl_assets.config import StrictModel
from fl_assets.consortium import PrivacyBudget
from fl_assets.storage import Access

_HOSPITAL, _STORE, _ACCESS = "hospital", "store", "access"
_BUDGET, _NOISE_SEED = "budget", "noise-seed"


class SiteConfig(StrictModel):
    """The config of one hospital's node.

    Attributes:
        hospital: its name.
        store: URI of its store.
        access: as whom its code opens the store.
        budget: what its patients may be exposed to. A node without one trains nothing that is
            not protected, and that up to the default cap.
        noise_seed: makes the noise predictable, and so worthless, for tests and benchmarks; the
            site says so to the coordinator. A cryptographic key of its own if None.
    """

    hospital: str
    store: str
    access: Access = Access()
    budget: PrivacyBudget = PrivacyBudget()
    noise_seed: int | None = None

    def to_node(self) -> dict[str, str]:
        """Return it in Flower's flat form."""
        node = {
            _HOSPITAL: self.hospital,
            _STORE: self.store,
            _ACCESS: self.access.model_dump_json(),
            _BUDGET: self.budget.model_dump_json(),
        }
        return node if self.noise_seed is None else {**node, _NOISE_SEED: str(self.noise_seed)}

    @classmethod
    def of_node(cls, node: Mapping[str, object]) -> SiteConfig:
        """Read Flower's flat form."""
        access, budget, seed = node.get(_ACCESS), node.get(_BUDGET), node.get(_NOISE_SEED)
        return cls(
            hospital=str(node[_HOSPITAL]),
            store=str(node[_STORE]),
            access=Access.model_validate_json(str(access)) if access else Access(),
            budget=PrivacyBudget.model_validate_json(str(budget)) if budget else PrivacyBudget(),
            noise_seed=None if seed is None else int(str(seed)),
        )
