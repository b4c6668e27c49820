"""A trained model as data: what a hospital needs to score its rows with somebody else's model."""

from __future__ import annotations

import base64
import io
import zipfile
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import PlainSerializer, PlainValidator

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.errors import BadDataError
from fl_assets.learning.configs import ModelConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.learning.weights import Weights, weights_from_bytes, weights_to_bytes
from fl_assets.site.comparison import TrainedModel

LARGEST = 128 * 2**20
"""Bytes of a model's weights that a hospital takes in."""


class WeightsTooLargeError(BadDataError):
    """A model that is larger than a hospital takes in."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the model's weights have {size:,} bytes, and a hospital takes in {LARGEST:,}: give "
            "the recipe a smaller model"
        )


class UnreadableWeightsError(BadDataError):
    """What came in place of weights."""

    def __init__(self) -> None:
        super().__init__(
            "the weights that came are no base64 of an .npz: bring both sides to the same version "
            "of the software"
        )


class UnfitWeightsError(BadDataError):
    """The weights are of another model than the one they are said to be of."""

    def __init__(self, differing: int) -> None:
        super().__init__(
            f"{differing} of the model's weights are missing, are too many or have another shape: "
            "bring both sides to the same version of the software"
        )


class OtherCohortError(BadDataError):
    """A model is for another cohort than the hospital's."""

    def __init__(self, own: str, other: str) -> None:
        super().__init__(
            f"the model is for cohort contract {other} and the hospital has {own}: bring the "
            "cohort file to the same state everywhere, then train the recipe anew"
        )


def _decode(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > LARGEST * 4 / 3 + 4:
        raise WeightsTooLargeError(len(value) * 3 // 4)
    try:
        data = base64.b64decode(value, validate=True)
        # A compressed archive could be far larger than the text that it came in.
        size = sum(info.file_size for info in zipfile.ZipFile(io.BytesIO(data)).infolist())
        if size > LARGEST:
            raise WeightsTooLargeError(size)
        return weights_from_bytes(data)
    except (ValueError, zipfile.BadZipFile):
        raise UnreadableWeightsError from None


def _encode(weights: Weights) -> str:
    return base64.b64encode(weights_to_bytes(weights)).decode()


SentWeights = Annotated[
    Weights, PlainValidator(_decode), PlainSerializer(_encode, return_type=str, when_used="json")
]
"""Arrays by parameter name; in JSON the base64 of an ``.npz``."""


class ModelData(StrictModel):
    """A trained model.

    Attributes:
        config: which network.
        preprocessor: makes its features.
        weights: of the network.
        threshold: its operating point, chosen on other rows than those that it will score.
    """

    config: ModelConfig
    preprocessor: Preprocessor
    weights: SentWeights
    threshold: float

    @cached_property
    def trained(self) -> TrainedModel:
        """The model, ready to score.

        Raises:
            UnfitWeightsError: the weights are not of this network.
        """
        # The seed does not matter: the first weights are overwritten.
        model = model_for(self.config, self.preprocessor, seed=0)
        expected = {name: tuple(w.shape) for name, w in model.state_dict().items()}
        found = {name: np.shape(w) for name, w in self.weights.items()}
        if expected != found:
            differing = expected.items() ^ found.items()
            raise UnfitWeightsError(len({name for name, _ in differing}))
        model.load_state_dict({name: torch.from_numpy(w) for name, w in self.weights.items()})
        return TrainedModel(
            self.preprocessor, lambda X: predict(model, torch.from_numpy(X)), self.threshold
        )

    def of_cohort(self, spec: CohortSpec) -> TrainedModel:
        """Return the model, ready to score rows of a hospital.

        Args:
            spec: the hospital's own cohort. A model brings the cohort that it is for, and what is
                told of a label or a subgroup is not for whoever sends a model to decide.

        Raises:
            OtherCohortError: the model is for another cohort.
            UnfitWeightsError: the weights are not of this network.
        """
        if self.preprocessor.cohort != spec.contract:
            raise OtherCohortError(spec.version, self.preprocessor.cohort.version)
        return self.trained
