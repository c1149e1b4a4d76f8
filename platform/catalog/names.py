"""Owns which names adapters and aliases may have, and how a request's `model` text splits into
them."""

import re
from typing import NamedTuple

from loraplex.platform.errors import BadRequestError

DEFAULT_ALIAS = "prod"
# Neither "@" nor "/" nor ":": the first separates versions, the others belong to base model ids and file paths.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class ModelName(NamedTuple):
    """What a `model` text asks for: an adapter with at most one of a version number and an alias."""

    adapter: str
    version: int | None
    alias: str | None


def parse_model(model: str) -> ModelName | None:
    """Split `ADAPTER`, `ADAPTER@ALIAS` or `ADAPTER@N`; None when no adapter could have this name."""
    adapter, at, selector = model.partition("@")
    if not _NAME.fullmatch(adapter):
        return None
    if not at:
        return ModelName(adapter, None, None)
    if _NUMBER.fullmatch(selector):
        return ModelName(adapter, int(selector), None)
    if _is_alias(selector):
        return ModelName(adapter, None, selector)
    return None


def check_adapter_name(name: str, reserved: tuple[str, ...]) -> str:
    """`name`, if a new adapter may have it.

    Raises:
        BadRequestError: its characters, its length, or it is the id of a base model.
    """
    if not _NAME.fullmatch(name):
        raise BadRequestError(
            "name: use 1 to 63 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit.",
            code="invalid_name",
            param="name",
        )
    if name in reserved:
        raise BadRequestError(
            f"name: {name!r} is a base model; choose another name.",
            code="reserved_name",
            param="name",
        )
    return name


def check_alias(alias: str) -> str:
    """`alias`, if an alias may be called so.

    Raises:
        BadRequestError: its characters, its length, or only digits, which would read as a version.
    """
    if not _is_alias(alias):
        raise BadRequestError(
            "alias: use 1 to 63 letters, digits, dots, dashes and underscores, not digits alone.",
            code="invalid_alias",
            param="alias",
        )
    return alias


def _is_alias(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not text.isdigit()
