"""What anyone may read: our public keys, the meaning of our problems, our metrics."""

from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from users import wiring
from users.api.errors import PROBLEMS, problem_response
from users.api.observation import settle
from users.infrastructure import metrics as prometheus
from users.infrastructure.keyring import JWKS_MAX_AGE_SECONDS


def _json(content: Any, max_age: int) -> HttpResponse:
    response = HttpResponse(orjson.dumps(content), content_type="application/json")
    response["Cache-Control"] = f"public, max-age={max_age}"
    return response


@require_safe
def jwks(request: HttpRequest) -> HttpResponse:
    return _json(wiring.service().keyring.jwks(), max_age=JWKS_MAX_AGE_SECONDS)


@require_safe
def problem(request: HttpRequest, code: str) -> HttpResponse:
    """Where a problem's `type` leads."""
    if code not in PROBLEMS:
        return problem_response("not_found")
    known = PROBLEMS[code]
    content = {"error": code, "status": known.status, "title": known.title, "meaning": known.meaning}
    return _json(content, max_age=3600)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Of all processes together where PROMETHEUS_MULTIPROC_DIR is set, as `make run` and the image do."""
    settle()
    return HttpResponse(prometheus.page(), content_type=prometheus.CONTENT_TYPE)
