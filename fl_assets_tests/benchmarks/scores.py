import numpy as np

from benchmarks.recipe_fold import FoldScores


def scores_of(good):
    """Return a fold of one hospital: each method ranks its two rows right, or the wrong way."""
    ranks = {True: np.array([0.1, 0.9]), False: np.array([0.9, 0.1])}
    return FoldScores(
        labels={"a": np.array([0.0, 1.0])},
        scores={name: {"a": ranks[right]} for name, right in good.items()},
        thresholds=dict.fromkeys(good, 0.5),
        test_to_train=0.25,
    )
