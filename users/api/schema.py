"""The OpenAPI document's side of the API: drf-spectacular, told of our problems."""

from drf_spectacular.openapi import AutoSchema


class ProblemSchema(AutoSchema):  # type: ignore[misc]
    """Every operation with its problems."""
