"""Who asks whom what to try next: one process itself, or several workers a chief, as KerasTuner lays down.

KerasTuner's environment variables tell each process who it is. `KERASTUNER_TUNER_ID` is its name, `chief` for the one
that is asked and tries nothing itself; `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` tell where the chief is.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras_tuner

from tfrecords.errors import BoneAgeError

NAME_VARIABLE, *ADDRESS_VARIABLES = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CHIEF, ALONE = "chief", "alone"


class TuningFailed(BoneAgeError):
    """A search that cannot begin, go on, or tell anything."""


def read_name() -> str:
    """Return the name of this process: `"alone"`, `"chief"`, or that of a worker.

    Raises:
        TuningFailed: If only some of KerasTuner's variables are set.
    """
    missing = [name for name in (NAME_VARIABLE, *ADDRESS_VARIABLES) if not os.environ.get(name)]
    if set(ADDRESS_VARIABLES) <= set(missing):
        return ALONE
    if missing:
        raise TuningFailed(f"{missing[0]} is not set, while others of KerasTuner's variables are; set all, or none.")
    name = os.environ[NAME_VARIABLE]
    return CHIEF if CHIEF in name else name


class Relay:
    """Oracles that are asked one after the other, each once all trials of the one before have ended.

    KerasTuner's server takes it for an oracle.

    Args:
        oracles: The oracles; the next one is asked for when its turn comes.
        on_end: Told each trial that has ended, before its oracle is.

    Attributes:
        is_over: Set once everybody who asked was told that there is nothing left to try.
    """

    def __init__(self, oracles: Iterator[keras_tuner.Oracle], *, on_end: Callable[[Any], None]):
        self._oracles, self._on_end = oracles, on_end
        self._current, self._names = next(oracles), set[str]()
        self.is_over = threading.Event()

    def create_trial(self, name: str) -> Any:
        """Return what to try next, the same again for who has not ended it.

        Its status is `"RUNNING"`; `"IDLE"` where others have to end a trial first; `"STOPPED"` when nothing is left.
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
        """Take what a trial brought."""
        return self._current.update_trial(trial_id, metrics, step=step)

    def end_trial(self, trial: Any) -> None:
        """Take the end of a trial."""
        self._on_end(trial)
        self._current.end_trial(trial)
        # Without it the state still tells that the trial goes on.
        self._current.save()


def serve(relay: Relay) -> None:
    """Let workers ask the relay until it is over.

    KerasTuner's own loop may leave before its last answer arrives, or stay 20 seconds longer.

    Raises:
        TuningFailed: If the address cannot be had.
    """
    # Imported here: one process alone needs no server.
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    # Two chiefs at one address would each be asked now and then.
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(relay), server)
    address = ":".join(os.environ[name] for name in ADDRESS_VARIABLES)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise TuningFailed(f"{address}: workers cannot be served here; is another chief? ({error})") from error
    server.start()
    try:
        relay.is_over.wait()
    finally:
        server.stop(grace=5).wait()


@contextlib.contextmanager
def ask_chief() -> Iterator[Any]:
    """Give what asks the chief, for which it waits up to an hour at every question.

    Raises:
        TuningFailed: If the chief does not answer, or ended with an error of its own.
    """
    import grpc
    from keras_tuner.src.distribute.oracle_client import OracleClient

    try:
        yield OracleClient(None)
    except grpc.RpcError as error:
        raise TuningFailed(
            f"The chief at {':'.join(os.environ[name] for name in ADDRESS_VARIABLES)} is gone "
            f"({error.code().name.lower()}); start it and its workers again, nothing finished is repeated."
        ) from error
