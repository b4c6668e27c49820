"""What a step of DP-SGD costs: ours, a plain step without privacy, and Opacus' hooks.

python -m benchmarks.dp_step

The three take turns on the same batch in one process and are judged by CPU time, the noise
included; the clipped sums of ours and of Opacus must agree in float64.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated

import torch
import typer
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from rich.table import Table
from torch import Tensor, nn

from benchmarks.bars import Bar, enforce, show
from benchmarks.contest import Ratio
from benchmarks.setting import console, run, table
from fl_assets.cli import Format, FormatOption
from fl_assets.learning.closed_form import linear_chain
from fl_assets.learning.configs import (
    BCEConfig,
    LogisticRegressionConfig,
    MLPConfig,
    ModelConfig,
    OptimizerConfig,
)
from fl_assets.learning.losses import build_objective
from fl_assets.learning.models import build_model
from fl_assets.privacy.clipping import ChainClippedSum
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.dpsgd import train_privately
from fl_assets.privacy.noise import SecureNoise

MODELS: dict[str, ModelConfig] = {"LR": LogisticRegressionConfig(), "MLP 64-32": MLPConfig()}
FEATURES = 16
PREVALENCE = 0.05
LR, CLIP, NOISE_MULTIPLIER = 0.01, 1.0, 1.0
SIDES = {"plain": "plain autograd step", "ours": "DP step, as shipped", "opacus": "Opacus' hooks"}

OBJECTIVE = build_objective(BCEConfig(), PREVALENCE)


@dataclass(frozen=True)
class Found:
    """What was found for a model.

    Attributes:
        seconds: CPU time of a step, by side and turn.
        cost: our step over the plain one.
        gain: Opacus' step over ours.
        apart: largest difference of the clipped sums in float64, over their largest entry.
    """

    seconds: dict[str, list[float]]
    cost: Ratio
    gain: Ratio
    apart: float


class Contest:
    """The sides, each with a model of its own and the same first weights."""

    def __init__(self, config: ModelConfig, batch: int) -> None:
        self._config = config
        generator = torch.Generator().manual_seed(0)
        self._X = torch.randn(batch, FEATURES, generator=generator)
        self._y = (torch.rand(batch, 1, generator=generator) < PREVALENCE).float()

    def plain(self, steps: int) -> None:
        """Descend without privacy."""
        model = self._model()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, fused=True)
        for _ in range(steps):
            optimizer.zero_grad()
            OBJECTIVE(model(self._X), self._y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def ours(self, steps: int) -> None:
        """Descend as a site does."""
        train_privately(
            self._model(),
            self._X,
            self._y,
            objective=OBJECTIVE,
            optimizer=OptimizerConfig(lr=LR),
            privacy=PrivacyConfig(epsilon=1, clip=CLIP, steps=steps, minimum_rows=1),
            noise_multiplier=NOISE_MULTIPLIER,
            noise=SecureNoise(),
        )

    def opacus(self, steps: int) -> None:
        """Descend as Opacus' make_private has it, without its data loader."""
        hooked, optimizer = _hook(self._model(), len(self._X))
        for _ in range(steps):
            optimizer.zero_grad()
            OBJECTIVE(hooked(self._X), self._y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def difference(self) -> float:
        """Compare the clipped sums in float64."""
        X, y = self._X.double(), self._y.double()
        model = self._model()
        linear = linear_chain(model)
        assert linear is not None
        model.double()
        ours = [torch.empty_like(w) for w in model.parameters()]
        with torch.no_grad():
            ChainClippedSum(linear, OBJECTIVE, CLIP, ours)(X, y)
        hooked, optimizer = _hook(model, len(X))
        OBJECTIVE(hooked(X), y).backward()  # type: ignore[no-untyped-call]
        optimizer.clip_and_accumulate()
        theirs = _flat([p.summed_grad for p in model.parameters()])  # type: ignore[attr-defined]
        return float((_flat(ours) - theirs).abs().max() / theirs.abs().max())

    def _model(self) -> nn.Module:
        return build_model(self._config, {"all": range(FEATURES)}, PREVALENCE, seed=0)


def _hook(model: nn.Module, batch: int) -> tuple[GradSampleModule, DPOptimizer]:
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=LR),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=batch,
    )
    return GradSampleModule(model), optimizer


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def measure(config: ModelConfig, batch: int, steps: int, turns: int) -> Found:
    """Have the sides take turns, after a warm-up."""
    torch.set_num_threads(1)
    contest = Contest(config, batch)
    sides: dict[str, Callable[[int], None]] = {side: getattr(contest, side) for side in SIDES}
    for side in sides.values():
        side(3)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(turns):
        for name, side in sides.items():
            start = time.process_time()
            side(steps)
            seconds[name].append((time.process_time() - start) / steps)
    cost = Ratio.of(seconds["ours"], seconds["plain"])
    gain = Ratio.of(seconds["opacus"], seconds["ours"])
    return Found(seconds, cost, gain, contest.difference())


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Of each side in each turn.")] = 300,
    turns: Annotated[int, typer.Option(min=1, help="Of each side.")] = 7,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Time a step of DP-SGD.

    Exit code 1 when a bar is missed.
    """
    # Of Opacus, about a layer whose input asks for no gradient.
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    found = {name: measure(config, batch, steps, turns) for name, config in MODELS.items()}
    bars = [bar for name, each in found.items() for bar in _judge(name, each)]
    load = os.getloadavg()[0]
    if format_ is Format.JSON:
        document = {
            "batch": batch,
            "steps": steps,
            "models": {name: asdict(each) for name, each in found.items()},
            "load": load,
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(_table(f"A step of {batch} rows: CPU time, median of {turns} turns", found))
        out.print(f"Load of the machine, {os.cpu_count()} cores: {load:.1f}\n")
        show(bars, out)
    enforce(bars)


def _judge(name: str, found: Found) -> list[Bar]:
    return [
        Bar(f"{name}: DP step over plain step", found.cost.median, 1.2, at_most=True),
        Bar(f"{name}: Opacus' step over DP step", found.gain.median, 8),
        Bar(f"{name}: difference of the clipped sums", found.apart, 1e-9, at_most=True),
    ]


def _table(title: str, found: dict[str, Found]) -> Table:
    columns = [f"{side}, µs" for side in SIDES.values()]
    rows = table(title, ["", *columns, "DP over plain", "Opacus over DP", "sums apart"])
    for name, each in found.items():
        times = [f"{1e6 * median(each.seconds[side]):.0f}" for side in SIDES]
        rows.add_row(name, *times, f"{each.cost}", f"{each.gain}", f"{each.apart:.0e}")
    return rows


if __name__ == "__main__":
    run(app)
