"""What the page and the REST interface share: the model, and a request's way from its form to its answers."""

import contextlib
import functools
import hashlib
import logging
import time
from pathlib import Path

from starlette.requests import Request

from boneage.reader import Reader, describe
from boneage.web.history import History
from boneage.web.metrics import Metrics
from boneage.web.pictures import draw_importance
from boneage.web.pool import Pool, PoolFull
from boneage.web.readings import Answer, Upload, name_error, read_upload, refuse
from boneage.web.store import Store
from boneage.web.uploads import RETRY_SECONDS, BadRequest, Bounds, Room, read_uploads
from boneage.web.words import TIMED_OUT
from preprocessing.radiograph import Radiograph
from tfrecords.errors import BoneAgeError
from tfrecords.schema import male_from_sex

# Ten requests may wait at a time; in memory, there is room for as much as two of the largest bring.
_FULL_REQUESTS = 2
_DRAWING = Path("drawing")
_log = logging.getLogger("boneage.web")


class Service:
    """A model and its readings.

    Args:
        reader: The model.
        pool: Where it reads.
        bounds: What a request may bring.
        history: The sessions.
        metrics: The counters.
        store: Where readings are kept; None where they are not.
    """

    def __init__(
        self, reader: Reader, *, pool: Pool, bounds: Bounds, history: History, metrics: Metrics, store: Store | None
    ):
        self.reader, self.pool, self.bounds = reader, pool, bounds
        self.history, self.metrics, self.store = history, metrics, store
        self.model = describe(reader)
        self._room = Room(_FULL_REQUESTS * bounds.max_bytes)
        self.is_ready = False

    async def warm_up(self) -> None:
        """Read a drawing, so that the first request does not wait until the networks are loaded."""
        try:
            await self.pool.run(self._read_drawing, until=time.monotonic() + self.pool.request_seconds)
            self.is_ready = True
        except Exception as error:  # the server goes on, and says that it is not ready
            _log.error("the model could not be tried: %s", name_error(error))

    def _read_drawing(self) -> None:
        from preprocessing.synthetic import draw_radiograph

        pixels = draw_radiograph(120, sex="male", seed=0, size_px=(256, 205)).pixels
        drawing = Radiograph(pixels, None, "male", None, None, hashlib.sha256(pixels.tobytes()).hexdigest())
        with contextlib.suppress(BoneAgeError):  # whatever it is taken for, the networks are loaded
            self.reader.read(drawing, path=_DRAWING, sex="male")

    async def answer(self, request: Request, *, age_field: str, age_unit_months: float) -> list[Answer]:
        """Answer the files of a form, in their order.

        Args:
            request: The request.
            age_field: Name of the form's field for the chronological age.
            age_unit_months: Months in its unit.

        Raises:
            BadRequest: If the form cannot be answered as a whole.
        """
        try:
            with self.pool.admit() as until, self._room.enter() as take:
                uploads = await read_uploads(
                    request,
                    bounds=self.bounds,
                    take=take,
                    until=until,
                    age_field=age_field,
                    age_unit_months=age_unit_months,
                )
                return [await self._answer_one(upload, until=until) for upload in uploads]
        except PoolFull:
            raise BadRequest(
                503, "too many readings at the moment; try again in a while.", headers={"Retry-After": RETRY_SECONDS}
            ) from None

    async def draw_importance(self, answer: Answer) -> bytes | None:
        """Draw what a reading rests on, as PNG; None where there is no reading.

        Raises:
            BadRequest: If there is no time for it.
        """
        if not answer.accepted or answer.crop is None:
            return None
        male = male_from_sex(answer.sex) if answer.sex else 0.0
        draw = functools.partial(draw_importance, self.reader.age, answer.crop, male=male)
        try:
            with self.pool.admit() as until:
                return await self.pool.run(draw, until=until)
        except (PoolFull, TimeoutError):
            raise BadRequest(
                503, "too many readings at the moment; try again in a while.", headers={"Retry-After": RETRY_SECONDS}
            ) from None

    async def _answer_one(self, upload: Upload, *, until: float) -> Answer:
        began = time.perf_counter()
        try:
            answer = await self.pool.run(functools.partial(read_upload, self.reader, upload), until=until)
        except TimeoutError:
            answer = refuse(upload, TIMED_OUT)
        self.metrics.count_answer(answer, seconds=time.perf_counter() - began)
        if self.store is not None:
            try:
                self.store.keep(answer)
            except OSError as error:  # the answer is there all the same
                _log.error("a reading could not be stored: %s", error.strerror)
        return answer
