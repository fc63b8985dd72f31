"""The web application: pages and REST interface over one model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from boneage.reader import Reader, describe
from boneage.web import api, pages
from boneage.web.history import History
from boneage.web.metrics import Metrics
from boneage.web.pool import Pool
from boneage.web.safety import Access
from boneage.web.service import Service
from boneage.web.shell import enclose
from boneage.web.store import Store
from boneage.web.uploads import Bounds


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return api.add_examples(super().openapi())


def create_app(
    reader: Reader,
    *,
    token: str | None = None,
    store: str | Path | None = None,
    bounds: Bounds | None = None,
    pool: Pool | None = None,
) -> FastAPI:
    """Make the web application.

    Args:
        reader: The model; see `boneage.reader.load_reader`.
        token: Secret that every request but `/healthz` must give; None where this machine alone can ask.
        store: Folder to keep crops and readings in; nothing is kept without it.
        bounds: What one request may bring; 100 MB and 50 files without it.
        pool: How many readings at a time; two without it.

    Returns:
        The application, for any ASGI server.

    Raises:
        StoreError: If `store` cannot be written to.
    """
    history, metrics = History(), Metrics()
    pool = pool or Pool()
    service = Service(
        reader,
        pool=pool,
        bounds=bounds or Bounds(max_bytes=100 * 2**20),
        history=history,
        metrics=metrics,
        store=None if store is None else Store(store, model=describe(reader).label),
    )
    access = Access(token, history)

    @contextlib.asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm_up())
        yield
        warming.cancel()
        pool.close()

    # The pages of FastAPI that show the interface would load their scripts from another site.
    app = _App(
        title="boneage",
        version=version("boneage"),
        description="Bone age in months from radiographs of the hand. Research use: not a medical device.",
        docs_url=None,
        redoc_url=None,
        lifespan=live,
    )
    app.include_router(api.make_router(service))
    app.include_router(pages.make_router(service, access))
    _add_probes(app, service)
    enclose(app, access=access, metrics=metrics)
    return app


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/readyz", summary="Whether the model is loaded", responses={503: {"description": "Not yet."}})
    async def tell_readiness() -> JSONResponse:
        told = {"status": "ready" if service.is_ready else "loading", "model": service.model.label}
        return JSONResponse(told, 200 if service.is_ready else 503)

    @app.get("/metrics", summary="Counts and seconds, for Prometheus", response_class=PlainTextResponse)
    async def tell_metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.write(), media_type="text/plain; version=0.0.4")
