"""The shop as an ASGI application: `python -m uvicorn examples.shop.app:app --host 127.0.0.1 --port 8000`."""

from __future__ import annotations

import os
import uuid

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.shop.defects import DefectLayer, chosen
from examples.shop.document import finished
from examples.shop.problem import on_http_exception, on_invalid
from examples.shop.routes import catalogue, people, sales, supply
from examples.shop.settings import Settings, from_environment
from examples.shop.store import Shop


class RequestId:
    """Puts X-Request-Id on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", uuid.uuid4().hex.encode())]}
            await send(message)

        return await self._app(scope, receive, send_named)


def right_shop(settings: Settings) -> FastAPI:
    """The shop as its document describes it."""
    app = FastAPI(
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={HTTPException: on_http_exception, RequestValidationError: on_invalid},
    )
    app.state.shop = Shop(settings)
    app.state.routes = []
    for part in (catalogue, people, sales, supply):
        app.include_router(part.router)
        app.state.routes += part.router.routes
    document = finished(app)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


def create_app(settings: Settings) -> ASGIApp:
    """The shop with the chosen defects laid over it.

    Raises:
        SystemExit: `settings.defects` names a defect that there is not.
    """
    return RequestId(DefectLayer(right_shop(settings), chosen(settings.defects), settings))


def __getattr__(name: str) -> ASGIApp:
    """Makes `app` when it is first asked for, so that importing the module needs no environment."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_app(from_environment(os.environ))
    return made
