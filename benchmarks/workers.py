"""Folds in worker processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_folds(function: Callable[[Task], Result], tasks: list[Task], workers: int) -> list[Result]:
    """Run the folds, in order; several workers are processes of their own."""
    with ExitStack() as stack:
        each: Iterable[Result] = map(function, tasks)
        if min(workers, len(tasks)) > 1:
            # Spawned: a fork would copy the threads' locks of torch.
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(
                ProcessPoolExecutor(min(workers, len(tasks)), mp_context=spawn)
            )
            each = pool.map(function, tasks)
        results = []
        for result in each:
            results.append(result)
            print(f"fold {len(results)} of {len(tasks)}", file=sys.stderr, flush=True)
    return results
