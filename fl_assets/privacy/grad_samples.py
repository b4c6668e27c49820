"""Sums of clipped per-row gradients of any torch model, by Opacus."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fl_assets.errors import FlAssetsError
from fl_assets.privacy.clipping import Clip, ClippedSum

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss, a scalar, of outputs and targets [b, k]."""

_ROWS_AT_ONCE = 512
"""Each of them has a gradient of the model's size in memory."""

_PROBED = 3
"""Rows with which a model is tried."""


class UnsupportedModelError(FlAssetsError):
    """A model in which the share of a single row cannot be bounded."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the model cannot be trained with differential privacy: {reason}. Use layers that "
            "treat each row by itself, LayerNorm (`norm: layer`) or none in place of BatchNorm, "
            "and weights only in the layer that owns them"
        )


@contextmanager
def grad_sample_sum(
    model: nn.Module, loss: Loss, clip: float, sums: Sequence[Tensor]
) -> Iterator[ClippedSum]:
    """Hook a model for the clipped sum; afterwards it is as it was.

    Opacus takes a row's gradient from what passes through each layer, and by functorch through
    layers that it does not know.

    Args:
        model: in training mode.
        loss: of outputs and targets; a row's own loss is that of the row alone.
        clip: largest L2 norm of a row's gradient.
        sums: of the trained weights, in order; written into.
    """
    scale = Clip(clip, sums[0].dtype)
    with torch.no_grad(), _grad_samples(model, loss) as grad_samples:

        def write(X: Tensor, targets: Tensor) -> None:
            for total in sums:
                total.zero_()
            parts = (torch.split(each, _ROWS_AT_ONCE) for each in (X, targets))
            for rows, wanted in zip(*parts, strict=True):
                if len(rows):
                    _add_clipped(sums, grad_samples(rows, wanted), scale)

        yield write


@contextmanager
def _grad_samples(
    model: nn.Module, loss: Loss
) -> Iterator[Callable[[Tensor, Tensor], list[Tensor]]]:
    """Hook a model for the gradients [b, size] of rows by each trained weight."""
    from opacus import GradSampleModule

    trained = [p for p in model.parameters() if p.requires_grad]
    known = [set(vars(module)) for module in model.modules()]
    hooked = GradSampleModule(model, loss_reduction="sum", strict=True)

    def grad_samples(X: Tensor, targets: Tensor) -> list[Tensor]:
        hooked.zero_grad(set_to_none=True)
        with torch.enable_grad():
            # Torch warns of hooks on a layer whose input asks for no gradient.
            outputs = hooked(X.detach().requires_grad_())
            (loss(outputs, targets) * len(X)).backward()  # type: ignore[no-untyped-call]
        return [_rows_of(p, len(X)) for p in trained]

    try:
        yield grad_samples
    finally:
        hooked.cleanup()
        for module, names in zip(model.modules(), known, strict=True):
            # What passed through the layers is left behind by an error.
            for name in set(vars(module)) - names:
                delattr(module, name)
        model.zero_grad(set_to_none=True)


def _rows_of(weight: nn.Parameter, rows: int) -> Tensor:
    gradients: Tensor | None = weight.grad_sample  # type: ignore[attr-defined]
    # A weight that took no part in the outputs has none.
    return weight.new_zeros(rows, weight.numel()) if gradients is None else gradients.view(rows, -1)


def _add_clipped(sums: Sequence[Tensor], gradients: list[Tensor], clip: Clip) -> None:
    by_weight = torch.stack([torch.linalg.vector_norm(g, dim=1) for g in gradients])
    norms = torch.linalg.vector_norm(by_weight, dim=0)
    bearable = norms.isfinite()
    if not bearable.all():
        norms, gradients = norms[bearable], [g[bearable] for g in gradients]
    factors = clip.factors(norms)
    for total, gradient in zip(sums, gradients, strict=True):
        total.add_((factors @ gradient).view_as(total))


def refuse_mixed_rows(model: nn.Module, loss: Loss, features: int, outputs: int) -> None:
    """Make sure that a row acts through nothing but its own gradient, and that Opacus gives it.

    Known offenders are refused by name. Any other model is tried: a copy with random weights, on
    random rows, must give each row the gradient that autograd gives the row alone, and must leave
    its buffers, which would be released without noise, as they were.

    Args:
        model: in training mode.
        loss: of outputs and targets.
        features: columns of the rows.
        outputs: columns of the targets.

    Raises:
        UnsupportedModelError: it is not so, or it fails.
    """
    from opacus.validators import ModuleValidator

    for name, module in model.named_modules():
        # Not by ModuleValidator.validate, which overlooks a BatchNorm without weights.
        validate = ModuleValidator.VALIDATORS.get(type(module))
        if validate and validate(module):
            kind = type(module).__name__
            raise UnsupportedModelError(f"Opacus refuses its layer {name!r}, a {kind}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            alike = _rows_stay_apart(copy.deepcopy(model), loss, features, outputs)
        except Exception as error:
            # Whatever a model of somebody else's raises on rows that are nobody's.
            raise UnsupportedModelError(f"it fails on single random rows ({error})") from error
    if not alike:
        raise UnsupportedModelError(
            "the gradient of a random row depends on the rows beside it, or a buffer keeps rows"
        )


@torch.no_grad()
def _rows_stay_apart(model: nn.Module, loss: Loss, features: int, outputs: int) -> bool:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            # It treats rows alone, but not twice in the same way.
            module.p = 0.0
    for weight in model.parameters():
        # A model that starts at zeros would pass whatever it does; a saturated one as well.
        weight.normal_(std=weight.shape[-1] ** -0.5 if weight.ndim else 1.0)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    X, targets = torch.randn(_PROBED, features), torch.ones(_PROBED, outputs)
    trained = [p for p in model.parameters() if p.requires_grad]
    with _grad_samples(model, loss) as grad_samples:
        found = torch.cat(grad_samples(X, targets), dim=1)
    with torch.enable_grad():
        alone = [
            torch.autograd.grad(
                loss(model(x), y), trained, allow_unused=True, materialize_grads=True
            )
            for x, y in zip(torch.split(X, 1), torch.split(targets, 1), strict=True)
        ]
    wanted = torch.stack([torch.cat([g.flatten() for g in each]) for each in alone])
    kept = all(torch.equal(now, before) for now, before in buffers)
    return kept and bool((found - wanted).norm() < 1e-3 * wanted.norm())
