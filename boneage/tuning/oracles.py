"""KerasTuner's oracles, which choose the next trial, with state that survives an interruption at any moment.

This is the only module that uses KerasTuner's private API.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles

from boneage.base.errors import check_choice
from boneage.base.files import write_text

OBJECTIVE = "val_mae"
ORACLE_FOLDER = "oracle"
# Random trials before the Gaussian process is used; KerasTuner's default, three per hyperparameter, would be most of a
# short search.
NUM_INITIAL_TRIALS = 12


class _PersistentOracle(keras_tuner.Oracle):
    """An oracle that writes its files atomically."""

    trials: dict[str, Any]

    def save(self) -> None:
        """Write the state."""
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def reload(self) -> None:
        """Read the state and its trials; a trial that is missing in the state was interrupted before its start."""
        super().reload()
        self.trials = {number: self.trials[number] for number in self.start_order}

    def _save_trial(self, trial: Any) -> None:
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))


class _Random(_PersistentOracle, oracles.RandomSearchOracle):
    """Random search."""


class _Bayesian(_PersistentOracle, oracles.BayesianOptimizationOracle):
    """Bayesian optimisation with a Gaussian process."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next trial, the same after an interruption: KerasTuner's state lacks the random generator."""
        self._random_state = np.random.RandomState(self.seed + len(self.start_order))
        space: dict[str, Any] = super().populate_space(trial_id)
        return space


class _Hyperband(_PersistentOracle, oracles.HyperbandOracle):
    """Hyperband: many trials for few epochs, the better ones for more."""


class _Grid(_PersistentOracle):
    """Grid search in random order, so that an incomplete search is a random sample of the grid.

    KerasTuner's grid search starts at a corner of the grid and cannot be resumed.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next combination; ranges are divided into ten points."""
        choices = {parameter.name: list(parameter.values) for parameter in self.hyperparameters.space}
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


class FixedOracle(keras_tuner.Oracle):
    """An oracle with a fixed list of trials.

    It has no state: the caller leaves out finished trials.

    Args:
        values: Hyperparameter values of each trial, at least one.
    """

    def __init__(self, values: Sequence[dict[str, Any]]):
        objective, endless = keras_tuner.Objective(OBJECTIVE, "min"), len(values) + 1
        super().__init__(objective, max_trials=len(values), seed=1, max_consecutive_failed_trials=endless)
        self.values, self.verbose = values, 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next trial of the list."""
        return {"status": "RUNNING", "values": self.values[int(trial_id)]}

    def save(self) -> None:
        """Do nothing: there is no state."""

    def _save_trial(self, trial: Any) -> None:
        """Do nothing: there is no state."""


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
    """Create an oracle, or restore the one of an earlier search from the folder.

    Args:
        tuner: `"hyperband"`, `"bayesian"`, `"random"` or `"grid"`.
        folder: Folder of the state.
        hyperparameters: The search space.
        num_trials: Number of trials, including those of an earlier search.
        max_epochs: Maximum number of epochs of a trial in hyperband.
        seed: Seed of the search.

    Raises:
        ValueError: If `tuner` is unknown.
    """
    check_choice("tuner", tuner, TUNERS)
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "min"),
        "hyperparameters": hyperparameters,
        # KerasTuner treats 0 as no seed.
        "seed": seed + 1,
        # Failed trials are results: they never end a search.
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
    oracle._set_project_dir(str(folder), ORACLE_FOLDER)
    if Path(oracle._get_oracle_fname()).exists():
        oracle.reload()
    return oracle


def serve_oracle(oracle: Any, server: Any) -> None:
    """Add KerasTuner's oracle service to a gRPC server.

    Args:
        oracle: The oracle that the workers use.
        server: The `grpc.Server`, not yet started.
    """
    # Imported here: a search in one process needs no gRPC.
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)


def open_client() -> Any:
    """Return a client of the chief, whose address is in KerasTuner's environment variables."""
    from keras_tuner.src.distribute.oracle_client import OracleClient

    return OracleClient(None)
