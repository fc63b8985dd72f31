"""The web application: pages and REST API of one model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from boneage.inference.reader import Reader
from boneage.serve import api, api_child, pages
from boneage.serve.history import History
from boneage.serve.metrics import Metrics
from boneage.serve.pool import Pool
from boneage.serve.service import Service
from boneage.serve.store import Store
from boneage.serve.uploads import UploadLimits
from boneage.studies.child_height import HeightTables
from boneage.web.safety import Access
from boneage.web.shell import add_shell


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return api.add_examples(super().openapi())


def create_app(
    reader: Reader,
    *,
    token: str | None = None,
    save_readings: str | Path | None = None,
    limits: UploadLimits | None = None,
    pool: Pool | None = None,
    heights: HeightTables | None = None,
) -> FastAPI:
    """Make the web application.

    Args:
        reader: The model; see `boneage.inference.loading.load`.
        token: Secret required with every request except `/healthz`; None if the server is reachable locally only.
        save_readings: Folder for anonymous crops and readings (default: nothing is stored).
        limits: Limits of one request (default: 100 MB and 50 files).
        pool: Worker pool (default: two readings at a time).
        heights: Tables that heights of children are found by (default: none).

    Returns:
        The application, for any ASGI server.

    Raises:
        StoreError: If `save_readings` cannot be written to.
    """
    history, metrics = History(), Metrics()
    pool = pool or Pool()
    service = Service(
        reader,
        pool=pool,
        limits=limits or UploadLimits(max_bytes=100 * 2**20),
        history=history,
        metrics=metrics,
        store=None if save_readings is None else Store(save_readings, model=reader.info.label),
        heights=heights or HeightTables(None, {}),
    )
    access = Access(token, history)

    @contextlib.asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm_up())
        yield
        warming.cancel()
        pool.close()

    # The API pages of FastAPI would load scripts from another site.
    app = _App(
        title="boneage",
        version=version("boneage"),
        description="Bone age in months from radiographs of the hand. Research use: not a medical device.",
        docs_url=None,
        redoc_url=None,
        lifespan=live,
    )
    app.include_router(api.make_router(service))
    app.include_router(api_child.make_router(service, responses=api.describe_problems(400, 401, 403, 411, 413, 422)))
    app.include_router(pages.make_router(service, access))
    _add_probes(app, service)
    add_shell(app, access=access, metrics=metrics)
    return app


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/readyz", summary="Readiness of the model", responses={503: {"description": "Not yet."}})
    async def get_readiness() -> JSONResponse:
        content = {"status": "ready" if service.is_ready else "loading", "model": service.model.label}
        return JSONResponse(content, 200 if service.is_ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def get_metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.write(), media_type="text/plain; version=0.0.4")
