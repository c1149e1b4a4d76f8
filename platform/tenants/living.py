"""Owns what is said when a tenant is deleted while something is being stored for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from loraplex.platform.errors import NotFoundError


@contextmanager
def of_living_tenant() -> Iterator[None]:
    """Around a transaction whose rows can only miss what goes with their tenant.

    Raises:
        NotFoundError: the tenant was deleted meanwhile.
    """
    try:
        yield
    except IntegrityError:
        raise NotFoundError("The tenant was deleted meanwhile; nothing was stored.") from None
