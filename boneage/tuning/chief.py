"""The chief: hands out trials to the workers of a search over KerasTuner's gRPC protocol.

KerasTuner's environment variables give each process its role. `KERASTUNER_TUNER_ID` is the name of the process, with
`chief` for the one that hands out trials and runs none; `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` are the
address of the chief.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras_tuner

from boneage.base.errors import BoneAgeError
from boneage.tuning.oracles import open_client, serve_oracle

NAME_VARIABLE, *ADDRESS_VARIABLES = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CHIEF, ALONE = "chief", "alone"


class TuningError(BoneAgeError):
    """A search cannot start, continue or report results."""


def process_name() -> str:
    """Return the name of this process: `"alone"`, `"chief"`, or that of a worker.

    Raises:
        TuningError: If only some of KerasTuner's variables are set.
    """
    missing = [name for name in (NAME_VARIABLE, *ADDRESS_VARIABLES) if not os.environ.get(name)]
    if set(ADDRESS_VARIABLES) <= set(missing):
        return ALONE
    if missing:
        raise TuningError(f"{missing[0]} is not set; set all three of KerasTuner's variables or none.")
    name = os.environ[NAME_VARIABLE]
    return CHIEF if CHIEF in name else name


class OracleChain:
    """A sequence of oracles: the next one starts when all trials of the one before have ended.

    It has the methods of an oracle that KerasTuner's server calls.

    Args:
        oracles: The oracles, created one after the other.
        on_end: Called with each trial that has ended, before its oracle.

    Attributes:
        is_over: Set once every worker has been told that no trials are left.
    """

    def __init__(self, oracles: Iterator[keras_tuner.Oracle], *, on_end: Callable[[Any], None]) -> None:
        self._oracles, self._on_end = oracles, on_end
        self._current, self._names = next(oracles), set[str]()
        self.is_over = threading.Event()

    def create_trial(self, name: str) -> Any:
        """Return the next trial of a worker, or again its unfinished one.

        Its status is `"RUNNING"`, `"IDLE"` while other workers have to finish a trial first, or `"STOPPED"` when no
        trials are left.
        """
        self._names.add(name)
        trial = self._current.create_trial(name)
        while trial.status == "STOPPED" and not self._current.ongoing_trials:
            following = next(self._oracles, None)
            if following is None:
                self._names.discard(name)
                if not self._names:
                    self.is_over.set()
                return trial
            self._current = following
            trial = following.create_trial(name)
        if trial.status == "STOPPED":
            trial.status = "IDLE"
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Any:
        """Report the result of a trial."""
        return self._current.update_trial(trial_id, metrics, step=step)

    def end_trial(self, trial: Any) -> None:
        """End a trial."""
        self._on_end(trial)
        self._current.end_trial(trial)
        # Ending a trial does not save the oracle: its state would still list the trial as running.
        self._current.save()


def serve_oracles(chain: OracleChain) -> None:
    """Serve the chain to the workers until it is over.

    KerasTuner's server may stop before its last response is sent, or 20 seconds late.

    Raises:
        TuningError: If the address is in use or invalid.
    """
    # Imported here: a search in one process needs no gRPC.
    import grpc

    # Two chiefs at the same address would each get some of the requests.
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    serve_oracle(chain, server)
    address = ":".join(os.environ[name] for name in ADDRESS_VARIABLES)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise TuningError(f"{address}: cannot listen here; is another chief running? ({error})") from error
    server.start()
    try:
        chain.is_over.wait()
    finally:
        server.stop(grace=5).wait()


@contextlib.contextmanager
def connect_to_chief() -> Iterator[Any]:
    """Connect to the chief. Each request waits for it up to an hour.

    Raises:
        TuningError: If the chief is unreachable or has failed.
    """
    import grpc

    try:
        yield open_client()
    except grpc.RpcError as error:
        raise TuningError(
            f"The chief at {':'.join(os.environ[name] for name in ADDRESS_VARIABLES)} is unreachable "
            f"({error.code().name.lower()}); restart it and its workers: finished trials are kept."
        ) from error
