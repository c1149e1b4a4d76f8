"""Owns how rows are named in the OpenAI API: a prefix and the hex digits of the id."""

from uuid import UUID

from loraplex.platform.errors import BadRequestError, NotFoundError

FILE = "file-"
UPLOAD = "upload_"
PART = "part_"
BATCH = "batch_"
_NOUNS = {FILE: "file", UPLOAD: "upload", PART: "part", BATCH: "batch"}


def shown(prefix: str, row_id: UUID) -> str:
    """The name of a row."""
    return f"{prefix}{row_id.hex}"


def absent(prefix: str, name: str, param: str | None = None) -> NotFoundError:
    """What to say of a name that the tenant has nothing for."""
    noun = _NOUNS[prefix]
    return NotFoundError(
        f"There is no {noun} {name[:64]!r}; it may have been deleted or have expired.", param=param
    )


def read(prefix: str, name: str, param: str | None = None) -> UUID:
    """The id of the row a name may stand for.

    Raises:
        NotFoundError: no row was ever called so.
    """
    digits = name.removeprefix(prefix)
    try:
        row_id = UUID(hex=digits)
    except ValueError:
        raise absent(prefix, name, param) from None
    if name != shown(prefix, row_id):
        raise absent(prefix, name, param)
    return row_id


def read_cursor(prefix: str, name: str | None) -> UUID | None:
    """The row after which a list goes on, which may be gone; None: from the beginning.

    Raises:
        BadRequestError: no row was ever called so.
    """
    if name is None:
        return None
    try:
        return read(prefix, name)
    except NotFoundError:
        message = f"after: {name[:64]!r} is not the id of a {_NOUNS[prefix]}."
        raise BadRequestError(message, param="after", code="invalid_value") from None


def optional(prefix: str, row_id: UUID | None) -> str | None:
    """The name of a row that may not be there."""
    return None if row_id is None else shown(prefix, row_id)
