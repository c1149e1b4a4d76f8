"""Owns the errors the platform raises for its users. Each is one sentence: what is wrong and what
to do. How they look on the wire is decided once, in `error_responses`."""

from collections.abc import Mapping
from typing import ClassVar


class PlatformError(Exception):
    """An error a client may see.

    Attributes:
        status: HTTP status.
        code: stable machine-readable name, part of the API.
        param: the request field at fault, if one is.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param


class BadRequestError(PlatformError):
    """A field is missing, malformed or out of range."""

    status = 400
    default_code = "invalid_request"


class AuthenticationError(PlatformError):
    """No key, or not one of ours. The message never says which part was wrong."""

    status = 401
    default_code = "invalid_api_key"


class PermissionDeniedError(PlatformError):
    """A valid key that lacks the scope or role. Never used for another tenant's object: that is a 404."""

    status = 403
    default_code = "permission_denied"


class NotFoundError(PlatformError):
    """Absent, or not for this key to see: the two are told apart by nobody."""

    status = 404
    default_code = "not_found"


class ModelNotFoundError(NotFoundError):
    """A model string that names nothing this key may use; the body depends on the string alone."""

    default_code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {model[:200]!r} does not exist or you do not have access to it; "
            "GET /v1/models lists what you can use.",
            param="model",
        )


class ConflictError(PlatformError):
    """The request contradicts the present state and will do so again: clients are told not to retry."""

    status = 409
    default_code = "conflict"


class PayloadTooLargeError(PlatformError):
    """The body, or a part of it, is above its limit."""

    status = 413
    default_code = "payload_too_large"


class UnprocessableError(PlatformError):
    """Well-formed but refused, for example an adapter that does not fit its base model.

    Attributes:
        report: what the check found, added to the answer as `report`.
    """

    status = 422
    default_code = "unprocessable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        report: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.report = report


class TooManyAttemptsError(PlatformError):
    """Signing in is tried too often.

    Attributes:
        retry_after: seconds until it may be tried again.
    """

    status = 429
    default_code = "too_many_attempts"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitExceededError(PlatformError):
    """A limit of the tenant, the key or the adapter does not admit the request.

    Attributes:
        retry_after: seconds after which it may be admitted; None: trying again does not help, and clients are told so.
        headers: of the answer, what is left of which limit.
    """

    status = 429
    default_code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None,
        headers: Mapping[str, str],
        code: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.headers = headers


class TooManyStreamsError(PlatformError):
    """As many event streams are open as there may be."""

    status = 429
    default_code = "too_many_streams"


class DatabaseUnavailableError(PlatformError):
    """The database cannot be reached; nothing was begun, and it may be tried again."""

    status = 503
    default_code = "database_unavailable"

    def __init__(self) -> None:
        super().__init__("The server's database cannot be reached now; try again later.")


class ShuttingDownError(PlatformError):
    """This process ends; another one may take the request."""

    status = 503
    default_code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("The server is shutting down; try again.")


class ProviderUnavailableError(PlatformError):
    """The provider that people sign in with cannot be asked; it may be tried again."""

    status = 503
    default_code = "provider_unavailable"


class EngineUnavailableError(PlatformError):
    """No engine can take the request now; it may be tried again."""

    status = 503
    default_code = "engine_unavailable"


class StructuresFullError(EngineUnavailableError):
    """The structures in use leave no room for another one."""

    default_code = "structures_full"
