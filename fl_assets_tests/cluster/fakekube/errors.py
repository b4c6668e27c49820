"""Refusals of the API server."""

from __future__ import annotations

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    415: "UnsupportedMediaType",
    422: "Invalid",
}


class ApiError(Exception):
    """A request that is answered with a ``Status`` of kind Failure."""

    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or REASONS[code]

    def body(self) -> dict[str, Any]:
        """Return the ``Status`` object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }


def not_found(resource: str, name: str) -> ApiError:
    """Return the refusal of a name that is not there."""
    return ApiError(404, f'{resource} "{name}" not found')


def invalid(kind: str, name: str, field: str, why: str) -> ApiError:
    """Return the refusal of a field's value."""
    return ApiError(422, f'{kind} "{name}" is invalid: {field}: {why}')
