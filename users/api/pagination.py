"""Pages: `{results, next}`, where `next` is the address of the next page, or null at the end."""

from typing import Any
from urllib.parse import urlencode

from rest_framework.request import Request
from rest_framework.response import Response


def page_response(request: Request, results: list[Any], **position: str | int | None) -> Response:
    """`position` is the one parameter that leads behind this page; None when nothing is there. The address
    is relative to this host, so that it holds behind any gateway, and keeps the filters."""
    following = {name: value for name, value in position.items() if value is not None}
    parameters = urlencode(request.query_params.dict() | following)
    next_page = f"{request.path}?{parameters}" if following else None
    return Response({"results": results, "next": next_page}, headers={"Cache-Control": "private, no-cache"})
