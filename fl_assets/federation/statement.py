"""What a hospital says of a run's privacy, in its last reply."""

from __future__ import annotations

from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.federation.site_config import SiteConfig
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger_balance import Balance
from fl_assets.privacy.ledger_entries import LedgerHead


class PrivacyStatement(StrictModel):
    """Where a hospital stands after a run.

    Attributes:
        epsilon, delta: of everything that the run released of the hospital's patients, its noised
            figures with its updates, for adding or removing one row; None without privacy.
        replace_one: the same under replacing one row, None where it is not known.
        noise_multiplier, sampling_rate, steps: of the updates; the steps are those that were really
            released.
        noise: ``secure``, or ``predictable`` where the noise has a seed and protects nobody.
        lifetime, cap: epsilon of everything that is in the hospital's ledger, and what it may
            come to, at the delta of the hospital's budget.
        unprotected_runs: runs without privacy in the ledger, for which ``lifetime`` does not hold.
        head: newest entry of the ledger, for the coordinator to keep as a witness.
    """

    epsilon: float | None = None
    delta: float | None = None
    replace_one: float | None = None
    noise_multiplier: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    noise: Literal["secure", "predictable"] = "secure"
    lifetime: float
    cap: float
    unprotected_runs: int
    head: LedgerHead | None


def state(
    run: str,
    privacy: PrivacyConfig | None,
    config: SiteConfig,
    balance: Balance,
    head: LedgerHead | None,
) -> PrivacyStatement:
    """Return the statement after a run.

    Args:
        run: its name.
        privacy: that the recipe asks for.
        config: of the hospital's node.
        balance, head: of the hospital's ledger.
    """
    # Opacus and torch, which who only reads a statement does not need.
    from fl_assets.privacy import accounting

    budget = config.budget
    stands = PrivacyStatement(
        lifetime=accounting.epsilon(balance.spent, budget.delta),
        cap=budget.epsilon,
        unprotected_runs=len(balance.unprotected),
        head=head,
    )
    if privacy is None:
        return stands
    (event,) = balance.account(run).spent
    spent = balance.spent_by(run)
    return stands.model_copy(
        update={
            "epsilon": accounting.epsilon(spent, privacy.delta),
            "delta": privacy.delta,
            "replace_one": accounting.replace_one_epsilon(spent, privacy.delta),
            "noise_multiplier": event.noise_multiplier,
            "sampling_rate": event.sampling_rate,
            "steps": event.steps,
            "noise": "secure" if config.noise_seed is None else "predictable",
        }
    )
