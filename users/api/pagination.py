"""Pages: `{results, next}`, where `next` is the address of the next page, or null at the end."""

from typing import Any
from urllib.parse import urlencode

from rest_framework.request import Request
from rest_framework.response import Response


def next_address(request: Request, **position: str | int | None) -> str | None:
    """`position` is the one parameter that leads behind this page; None when nothing is there. The address
    is relative to this host, so that it holds behind any gateway, and keeps the filters; but nobody waits for
    what is known to be there."""
    following = {name: value for name, value in position.items() if value is not None}
    kept = {name: value for name, value in request.query_params.dict().items() if name != "wait"}
    return f"{request.path}?{urlencode(kept | following)}" if following else None


def page_response(request: Request, results: list[Any], **position: str | int | None) -> Response:
    """`position` as in `next_address`."""
    content = {"results": results, "next": next_address(request, **position)}
    return Response(content, headers={"Cache-Control": "private, no-cache"})
