"""Owns the one mapping from any exception to an answer: OpenAI bodies under `/v1` and `/t/{tenant}/v1`, Anthropic's for
the messages there, and RFC 9457 problem documents elsewhere. Registered for `Exception`, so nothing reaches a client by
another way."""

import math
import re
import traceback
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from loraplex.platform.db.failures import is_away
from loraplex.platform.errors import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DatabaseUnavailableError,
    LimitExceededError,
    NotFoundError,
    PayloadTooLargeError,
    PlatformError,
    ShuttingDownError,
    TooManyAttemptsError,
    UnprocessableError,
)
from loraplex.platform.observability import request_id

_OPENAI_PATH = re.compile(r"(/t/[^/]+)?/v1(/|$)|/(de)?tokenize$")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


_ANTHROPIC_PATH = re.compile(r"(/t/[^/]+)?/v1/messages(/|$)")
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def is_anthropic_path(path: str) -> bool:
    """Whether errors of this path must look as Anthropic's."""
    return _ANTHROPIC_PATH.match(path) is not None


def is_openai_path(path: str) -> bool:
    """Whether errors of this path must look as OpenAI's."""
    return _OPENAI_PATH.match(path) is not None


def error_response(request: Request[Any, Any, State], error: Exception) -> Response[object]:
    """The answer to a request that raised `error`."""
    status, known, headers = _describe(request, error)
    if isinstance(known, AuthenticationError):
        headers["www-authenticate"] = "Bearer"
    if isinstance(known, TooManyAttemptsError):
        headers["retry-after"] = str(math.ceil(known.retry_after))
    if isinstance(known, LimitExceededError):
        headers |= _limit_headers(known)
    if isinstance(known, ShuttingDownError):
        # This connection leads to the same process again.
        headers |= {"retry-after": "1", "connection": "close"}
    if isinstance(known, ConflictError):
        # OpenAI's clients retry 409 on their own; ours is never about timing.
        headers["x-should-retry"] = "false"
    if is_anthropic_path(request.scope["path"]):
        body = anthropic_body(known, request_id(request.scope), status)
        return Response(body, status_code=status, headers=headers)
    if is_openai_path(request.scope["path"]):
        return Response(openai_body(known, status), status_code=status, headers=headers)
    return Response(
        _problem(known, status),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def _limit_headers(error: LimitExceededError) -> dict[str, str]:
    if error.retry_after is None:
        return {**error.headers, "x-should-retry": "false"}
    # Rounded up: who comes back too early is refused again.
    milliseconds = math.ceil(1000 * error.retry_after)
    retry = {
        "retry-after-ms": str(milliseconds),
        "retry-after": str(math.ceil(milliseconds / 1000)),
    }
    return {**error.headers, **retry}


def openai_body(error: PlatformError, status: int | None = None) -> dict[str, object]:
    """OpenAI's error object, all four keys; also what a stream sends when it breaks off."""
    status = status or error.status
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(status, fallback),
            "param": error.param,
            "code": error.code,
        }
    }


def anthropic_body(
    error: PlatformError, request_id: str, status: int | None = None
) -> dict[str, object]:
    """Anthropic's error object; also what a stream sends when it breaks off."""
    status = status or error.status
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(status, fallback)
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": request_id,
    }


def _problem(error: PlatformError, status: int) -> dict[str, object]:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    if error.param is not None:
        body["param"] = error.param
    if isinstance(error, UnprocessableError) and error.report is not None:
        body["report"] = error.report
    return body


def _describe(
    request: Request[Any, Any, State], error: Exception
) -> tuple[int, PlatformError, dict[str, str]]:
    """Status, the error as one of ours, and headers."""
    if isinstance(error, PlatformError):
        return error.status, error, {}
    if isinstance(error, ValidationException):
        return 400, _validation(error), {}
    if isinstance(error, MethodNotAllowedException):
        method = request.scope["method"]
        known = PlatformError(
            f"{method} is not allowed here; see /schema.", code="method_not_allowed"
        )
        return 405, known, dict(error.headers or {})
    if isinstance(error, NotFoundException):
        return 404, NotFoundError("There is no such route; see /schema."), {}
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _client_error(error)
    if isinstance(error, HTTPException) and "disconnect" in error.detail:
        # The client left while sending its body: nobody reads this answer, and nothing is wrong here.
        return 400, BadRequestError("The request body broke off."), {}
    if is_away(error):
        # In one line: while it is away, every request says so.
        structlog.get_logger().error("the database cannot be used", error=str(error))
        return DatabaseUnavailableError.status, DatabaseUnavailableError(), {}
    # As text: structlog's own renderers would print local variables, and with them keys and prompts.
    trace = "".join(traceback.format_exception(error))
    structlog.get_logger().error(
        "unexpected error", route=request.scope.get("path_template"), traceback=trace
    )
    message = "Something went wrong on our side; quote the x-request-id when you report it."
    return 500, PlatformError(message), {}


def _validation(error: ValidationException) -> BadRequestError:
    """Name the first field at fault; Litestar lists them as `extra`, the body as a whole as `data`."""
    faults = error.extra if isinstance(error.extra, list) else []
    if not faults:
        return BadRequestError(f"{error.detail.rstrip('.')}.")
    field, message = faults[0].get("key"), str(faults[0].get("message", "it is not valid"))
    if field in (None, "data"):
        if message == "'data'":
            return BadRequestError("Send a JSON body.")
        return BadRequestError(f"{message.rstrip('.')}.")
    return BadRequestError(f"{field}: {message.rstrip('.')}.", param=field)


def _client_error(error: HTTPException) -> tuple[int, PlatformError, dict[str, str]]:
    status = error.status_code
    if status == PayloadTooLargeError.status:
        return status, PayloadTooLargeError("The request body is larger than allowed."), {}
    code = "invalid_request" if status == 400 else HTTPStatus(status).name.lower()
    return status, PlatformError(f"{error.detail.rstrip('.')}.", code=code), {}
