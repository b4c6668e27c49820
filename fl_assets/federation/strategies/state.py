"""What a server optimiser remembers between rounds, as arrays for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi, Strategy
from numpy.typing import NDArray

from fl_assets.federation.job import FederationError

State = dict[str, NDArray[np.floating]]

_MOMENTS = ("m_t", "v_t")
_MOMENTUM = "momentum_vector"


class StrategyStateError(FederationError):
    """A checkpoint's strategy state that the recipe's strategy cannot have written."""

    def __init__(self, strategy: Strategy, names: list[str]) -> None:
        super().__init__(
            f"the checkpoint holds {', '.join(names)}, which {type(strategy).__name__} does not "
            "have: it is another recipe's; start the run anew under another name"
        )


def strategy_state(inner: Strategy) -> State:
    """Return a strategy's memory by stable names; empty where it has none, or none yet.

    Names are ``m_t/<parameter>`` and ``v_t/<parameter>`` of the adaptive optimisers, and
    ``momentum_vector/<position>`` of FedAvgM, which knows its parameters by position alone. The
    global model is not part of it: each round begins with it.
    """
    state: State = {}
    if isinstance(inner, FedAdam | FedYogi | FedAdagrad):
        for moment in _MOMENTS:
            arrays: Mapping[str, NDArray[np.floating]] = getattr(inner, moment) or {}
            state |= {f"{moment}/{name}": array for name, array in arrays.items()}
    elif isinstance(inner, FedAvgM):
        for position, array in enumerate(inner.momentum_vector or []):
            state[f"{_MOMENTUM}/{position:04d}"] = array
    return state


def restore_state(inner: Strategy, state: Mapping[str, NDArray[np.floating]]) -> None:
    """Give a new strategy the memory of another of its kind, before its first round.

    From the same global model, its parameters in the same order, it goes on as that one would.

    Raises:
        StrategyStateError: the state is of another kind of strategy.
    """
    found: dict[str, State] = {}
    for name, array in state.items():
        kind, _, parameter = name.partition("/")
        found.setdefault(kind, {})[parameter] = array
    if isinstance(inner, FedAdam | FedYogi | FedAdagrad):
        known: tuple[str, ...] = _MOMENTS
        inner.m_t, inner.v_t = (found.get(moment) for moment in _MOMENTS)
    elif isinstance(inner, FedAvgM):
        known = (_MOMENTUM,)
        vector = found.get(_MOMENTUM, {})
        inner.momentum_vector = [vector[position] for position in sorted(vector)] or None
    else:
        known = ()
    if strange := sorted(found.keys() - set(known)):
        raise StrategyStateError(inner, strange)
