"""Owns one schema within another: where it stands, what its keywords hold, and errors that name the place."""

from typing import NamedTuple

from loraplex.engine.structure import StructureError
from loraplex.engine.structured.keywords import ANNOTATIONS, KEYWORDS_OF, TYPES, Json, Schema

MAX_COUNT = 100_000  # of maxItems and its like


class Part(NamedTuple):
    """A schema within the schema.

    Attributes:
        schema: its keywords.
        path: the way to it, ".properties.name" for example; "" is the schema itself.
        depth: how many schemas it is within.
    """

    schema: Schema
    path: str
    depth: int

    def error(self, message: str, keyword: str | None = None) -> StructureError:
        """About this schema, or about one of its keywords."""
        return error_at(self.path if keyword is None else f"{self.path}.{keyword}", message)

    def must_stand_alone(self, keyword: str, *allowed: str) -> None:
        """Raises StructureError if other keywords than annotations are beside it."""
        for other in self.schema:
            if other not in ANNOTATIONS and other != keyword and other not in allowed:
                raise self.error(f"not supported beside {keyword}.", other)

    def types(self) -> list[str] | None:
        """Those a value may have; if the schema names none, those that its keywords are about; None is any."""
        wanted = self.schema.get("type")
        if wanted is None:
            found = [
                each for each, keywords in KEYWORDS_OF.items() if keywords & self.schema.keys()
            ]
            return found or None
        names = texts(wanted if isinstance(wanted, list) else [wanted])
        if not names or not set(names) <= set(TYPES):
            raise self.error(f"give one or several of {', '.join(TYPES)}.", "type")
        return list(dict.fromkeys(names))

    def amount(self, keyword: str) -> int | None:
        """A number of characters, elements or properties; None if it is not given."""
        value = self.schema.get(keyword)
        if keyword not in self.schema:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
            raise self.error(f"give a whole number from 0 to {MAX_COUNT}.", keyword)
        return value

    def check_range(self, low: int | None, high: int | None, what: str) -> None:
        """Raises StructureError if there are more at least than at most; `what` is the keywords' end."""
        if high is not None and (low or 0) > high:
            raise self.error(f"it is larger than max{what}, or than what is allowed.", f"min{what}")

    def schemas(self, keyword: str) -> list[Json]:
        """A list of schemas, not empty."""
        value = self.schema[keyword]
        if not isinstance(value, list) or not value:
            raise self.error("give a list of schemas.", keyword)
        return value


def texts(value: Json) -> list[str] | None:
    """A list of texts; None if it is something else."""
    if not isinstance(value, list):
        return None
    found = [each for each in value if isinstance(each, str)]
    return found if len(found) == len(value) else None


def error_at(path: str, message: str) -> StructureError:
    """With the place in front."""
    return StructureError(f"{path.removeprefix('.') or 'the schema'}: {message}")
