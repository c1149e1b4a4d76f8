"""Owns moments in the query of a request."""

from datetime import UTC, datetime

from loraplex.platform.errors import BadRequestError


def in_utc(moment: datetime | None, param: str) -> datetime | None:
    """A moment without a zone is meant in UTC, whatever the server's clock shows.

    Raises:
        BadRequestError: there is no such moment in UTC.
    """
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise BadRequestError(f"{param}: no such moment in UTC.", param=param) from None
