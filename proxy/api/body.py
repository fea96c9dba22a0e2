"""A request's body as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from translators.base import Fault


async def arriving(request: Request[None, None, State]) -> AsyncIterator[bytes]:
    """The body's pieces. That the client leaves meanwhile is no failure of the server's."""
    try:
        async for piece in request.stream():
            yield piece
    except InternalServerException as error:  # what Litestar makes of it
        request.scope["state"]["gone"] = True
        raise Fault("cancelled", "The client closed the connection.") from error


async def text(request: Request[None, None, State], most: int) -> bytes:
    """The whole of a small body."""
    pieces: list[bytes] = []
    async for piece in arriving(request):
        pieces.append(piece)
        if sum(map(len, pieces)) > most:
            raise too_large(most)
    return b"".join(pieces)


def check_announced(request: Request[None, None, State], most: int) -> None:
    """Raises where the client says itself that more will come than `most` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise too_large(most)


def too_large(most: int) -> Fault:
    """The fault of a body that is larger than the configuration admits."""
    return Fault("invalid", f"The request body is larger than {most} bytes.", code="request_too_large")
