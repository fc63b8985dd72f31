"""KerasTuner's oracles, which choose what a search tries next, kept so that a kill at any moment loses nothing."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles

from tfrecords.errors import check_choice
from tfrecords.write import write_text

OBJECTIVE = "val_mae"
# Drawn at random before a model of the outcomes chooses; KerasTuner's own number, three a hyperparameter, would be most
# of a short search.
NUM_INITIAL_TRIALS = 12


class _Kept(keras_tuner.Oracle):
    """What all oracles share here: files that are never there by half."""

    trials: dict[str, Any]

    def save(self) -> None:
        """Write the state."""
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def reload(self) -> None:
        """Read the state and the trials that it knows: one that a kill left without was never begun."""
        super().reload()
        self.trials = {number: self.trials[number] for number in self.start_order}

    def _save_trial(self, trial: Any) -> None:
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))


class _Random(_Kept, oracles.RandomSearchOracle):
    """Draws at random."""


class _Bayesian(_Kept, oracles.BayesianOptimizationOracle):
    """Asks a Gaussian process where the best outcome may lie."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return what to try next, the same after a kill: the state that KerasTuner keeps lacks these draws."""
        self._random_state = np.random.RandomState(self.seed + len(self.start_order))
        return super().populate_space(trial_id)


class _Hyperband(_Kept, oracles.HyperbandOracle):
    """Tries many for few epochs, and the better ones for more."""


class _Grid(_Kept):
    """Takes every combination once, in an order drawn by the seed, so that a part of the grid is a fair sample of it.

    KerasTuner's own begins at a corner, and saves no state to resume from.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next combination; ranges are taken at ten points."""
        choices = {each.name: list(each.values) for each in self.hyperparameters.space}
        size = math.prod(map(len, choices.values()))
        if len(self.start_order) >= size:
            return {"status": "STOPPED", "values": None}
        generator = np.random.default_rng(self.seed)
        order: dict[int, None] = {}
        while len(order) <= len(self.start_order):
            order[int(generator.integers(size))] = None
        place, values = list(order)[-1], {}
        for name, options in choices.items():
            place, index = divmod(place, len(options))
            values[name] = options[index]
        return {"status": "RUNNING", "values": values}


class Listed(keras_tuner.Oracle):
    """Hands out what stands in a list, each once.

    It keeps no state: whoever lists what to try knows what was tried before.

    Args:
        values: Values of each trial, one or more trials.
    """

    def __init__(self, values: Sequence[dict[str, Any]]):
        objective, endless = keras_tuner.Objective(OBJECTIVE, "min"), len(values) + 1
        super().__init__(objective, max_trials=len(values), seed=1, max_consecutive_failed_trials=endless)
        self.values, self.verbose = values, 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next of the list."""
        return {"status": "RUNNING", "values": self.values[int(trial_id)]}

    def save(self) -> None:
        """Keep nothing."""

    def _save_trial(self, trial: Any) -> None:
        """Keep nothing."""


TUNERS = ("hyperband", "bayesian", "random", "grid")


def open_oracle(
    tuner: str,
    *,
    folder: Path,
    hyperparameters: keras_tuner.HyperParameters,
    num_trials: int,
    max_epochs: int,
    seed: int,
) -> keras_tuner.Oracle:
    """Make an oracle, or take up the one that an earlier search left in the folder.

    Args:
        tuner: `"hyperband"`, `"bayesian"`, `"random"` or `"grid"`.
        folder: Where it keeps its state.
        hyperparameters: The space.
        num_trials: Number of trials after which it stops, those of the earlier search among them.
        max_epochs: Longest trial that hyperband asks for, as `tuner/epochs`.
        seed: Seed of its draws.

    Raises:
        ValueError: If `tuner` is unknown.
    """
    check_choice("tuner", tuner, TUNERS)
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "min"),
        "hyperparameters": hyperparameters,
        # Of 0 KerasTuner thinks as of no seed.
        "seed": seed + 1,
        # A trial that fails says something about its head; it ends no search.
        "max_consecutive_failed_trials": num_trials + 1,
    }
    if tuner == "hyperband":
        oracle: keras_tuner.Oracle = _Hyperband(max_epochs=max_epochs, hyperband_iterations=None, **shared)
        oracle.max_trials = num_trials
    elif tuner == "bayesian":
        oracle = _Bayesian(max_trials=num_trials, num_initial_points=NUM_INITIAL_TRIALS, **shared)
    else:
        oracle = {"random": _Random, "grid": _Grid}[tuner](max_trials=num_trials, **shared)
    oracle.verbose = 0
    oracle._set_project_dir(str(folder), "oracle")
    if Path(oracle._get_oracle_fname()).exists():
        oracle.reload()
    return oracle
