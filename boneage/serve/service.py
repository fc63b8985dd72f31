"""Shared by the page and the REST API: the model, and the processing of a request."""

import contextlib
import functools
import hashlib
import logging
import time
from pathlib import Path

from starlette.requests import Request

from boneage.base.errors import BoneAgeError, describe_error
from boneage.inference.drawing import draw_crop, draw_occlusion_png
from boneage.inference.messages import TIMED_OUT, explain_reasons
from boneage.inference.reader import Reader
from boneage.inference.reports import ReportError
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError
from boneage.serve.ages import AgeForm
from boneage.serve.history import History
from boneage.serve.metrics import Metrics
from boneage.serve.pool import Pool, PoolFullError
from boneage.serve.readings import Answer, Upload, read_again, read_upload, rejected_answer
from boneage.serve.store import Store
from boneage.serve.uploads import RETRY_SECONDS, MemoryBudget, UploadLimits, read_uploads
from boneage.studies.child_height import HeightTables
from boneage.tfrecords.schema import male_from_sex
from boneage.web.requests import RequestError

# Ten requests can wait at a time; the memory budget is that of two requests of maximum size.
_FULL_REQUESTS = 2
_DRAWING = Path("drawing")
_log = logging.getLogger("boneage.web")


class Service:
    """A model and its readings.

    Args:
        reader: The reader.
        pool: The worker pool.
        limits: Limits of a request.
        history: The sessions and their readings.
        metrics: Request and reading metrics.
        store: Store of anonymous readings, or None.
        heights: The tables that heights of children are found by.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        pool: Pool,
        limits: UploadLimits,
        history: History,
        metrics: Metrics,
        store: Store | None,
        heights: HeightTables,
    ):
        self.reader, self.pool, self.limits = reader, pool, limits
        self.history, self.metrics, self.store, self.heights = history, metrics, store, heights
        self.model = reader.info
        self._memory_budget = MemoryBudget(_FULL_REQUESTS * limits.max_bytes)
        self.is_ready = False

    @property
    def has_heights(self) -> bool:
        """Whether there is a table of heights."""
        return self.heights.bayley_pinneau is not None or bool(self.heights.references)

    @property
    def missing_tables(self) -> list[tuple[str, str]]:
        """What is not found for want of a table, and the option of `boneage serve` that gives it."""
        missing = [] if self.heights.bayley_pinneau is not None else [("adult height", "--tables")]
        return missing + [(name, f"--{name.lower()}") for name in ("CDC", "WHO") if name not in self.heights.references]

    async def warm_up(self) -> None:
        """Read a synthetic radiograph, so that the first request does not wait for the networks to load."""
        try:
            await self.pool.run(self._read_drawing, until=time.monotonic() + self.pool.request_seconds)
            self.is_ready = True
        except Exception as error:  # the server keeps running, and `/readyz` reports that it is not ready
            _log.error("warm-up of the model failed: %s", describe_error(error))

    def _read_drawing(self) -> None:
        from boneage.preprocessing.synthetic import draw_radiograph

        pixels = draw_radiograph(120, sex="male", seed=0, size_px=(256, 205)).pixels
        drawing = Radiograph(pixels, None, "male", None, None, hashlib.sha256(pixels.tobytes()).hexdigest())
        with contextlib.suppress(BoneAgeError):  # even if it is rejected, the networks are loaded
            self.reader.read(drawing, path=_DRAWING, sex="male", chronological_age_months=120.0)

    async def answer(self, request: Request, *, age_form: AgeForm) -> list[Answer]:
        """Answer the files of a form, in their order.

        Args:
            request: The request.
            age_form: The form's fields for the chronological age.

        Raises:
            RequestError: If the request is rejected as a whole.
        """
        try:
            with self.pool.admit() as until:
                pass  # Where the server is busy, it says so before the upload.
            with self._memory_budget.reserve() as take:
                uploads = await read_uploads(
                    request,
                    limits=self.limits,
                    take=take,
                    until=until,
                    age_form=age_form,
                )
                # Not before: slow uploads would take the places of others.
                with self.pool.admit():
                    return [await self._answer_one(upload, until=until) for upload in uploads]
        except PoolFullError:
            raise RequestError(503, "server busy; try again later.", headers={"Retry-After": RETRY_SECONDS}) from None

    async def read_again(self, answer: Answer, *, sex: str | None, chronological_age_months: float | None) -> Answer:
        """Read an answered film again with another sex or chronological age.

        Args:
            answer: The answer, with a bone age.
            sex: `"female"`, `"male"`, or None if unknown.
            chronological_age_months: Chronological age in months, or None.

        Raises:
            RequestError: If the server is busy, or the model's answer is discarded.
        """
        began = time.perf_counter()
        read = functools.partial(
            read_again, self.reader, answer, sex=sex, chronological_age_months=chronological_age_months
        )
        try:
            with self.pool.admit() as until:
                again = await self.pool.run(read, until=until)
        except (PoolFullError, TimeoutError):
            raise RequestError(503, "server busy; try again later.", headers={"Retry-After": RETRY_SECONDS}) from None
        except UnreadableImageError as error:
            raise RequestError(422, explain_reasons([error.reason])) from error
        self._record(again, began=began)
        return again

    async def draw_occlusion_png(self, answer: Answer) -> bytes | None:
        """Draw the occlusion map of a reading as PNG; None for a rejected file.

        Raises:
            RequestError: If the server is busy.
        """
        if not answer.accepted or answer.crop is None:
            return None
        male = male_from_sex(answer.sex) if answer.sex else 0.0
        age = answer.kept.reading.network_age_months if answer.kept else None
        draw = functools.partial(draw_occlusion_png, self.reader.age_bundle, answer.crop, male=male, age_months=age)
        try:
            with self.pool.admit() as until:
                return await self.pool.run(draw, until=until)
        except (PoolFullError, TimeoutError):
            raise RequestError(503, "server busy; try again later.", headers={"Retry-After": RETRY_SECONDS}) from None

    async def make_report(self, answer: Answer, name: str) -> bytes | None:
        """Make a report of a reading; None for a rejected file, and for DICOM objects of a file that is no DICOM.

        Args:
            answer: The answer.
            name: Name of the report; see `boneage.serve.kept.KeptReading.make`.

        Raises:
            RequestError: If the server is busy, or the header of the file allows no report.
        """
        if answer.kept is None or answer.film is None:
            return None
        make = functools.partial(answer.kept.make, name, film=answer.film, reader=self.reader)
        try:
            with self.pool.admit() as until:
                return await self.pool.run(make, until=until)
        except (PoolFullError, TimeoutError):
            raise RequestError(503, "server busy; try again later.", headers={"Retry-After": RETRY_SECONDS}) from None
        except ReportError as error:
            raise RequestError(422, str(error)) from error

    def draw_input(self, answer: Answer) -> bytes | None:
        """Draw what the network sees of a file as PNG, at its own size; None without a crop."""
        if answer.crop is None:
            return None
        return draw_crop(self.reader.age_bundle.resize_to_input(answer.crop)[..., 0])

    async def _answer_one(self, upload: Upload, *, until: float) -> Answer:
        began = time.perf_counter()
        try:
            answer = await self.pool.run(functools.partial(read_upload, self.reader, upload), until=until)
        except TimeoutError:
            answer = rejected_answer(upload, TIMED_OUT)
        self._record(answer, began=began)
        return answer

    def _record(self, answer: Answer, *, began: float) -> None:
        """Count an answer, and save it where readings are saved."""
        self.metrics.count_answer(answer, seconds=time.perf_counter() - began)
        if self.store is not None:
            try:
                self.store.keep(answer)
            except OSError as error:  # the answer is valid all the same
                _log.error("a reading could not be saved: %s", error.strerror)
