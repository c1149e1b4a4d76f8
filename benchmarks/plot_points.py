"""Owns which results are drawn, and in which colours."""

from collections.abc import Sequence

Row = dict[str, object]
Points = dict[tuple[object, ...], Row]

# Each at least 3 : 1 against white and against the usual dark grounds.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2f81f7", "#db6d28", "#2da44e", "#a371f7", "#818b98"
SHADES = (BLUE, ORANGE, GREEN, PURPLE, GREY, "#bf8700", "#e85aad", "#1b9e9e")


def newest(rows: Sequence[Row], benchmark: str, keys: Sequence[str], **wanted: object) -> Points:
    """The last row of each point of a benchmark, on the hardware that it was measured on last."""
    found = [r for r in rows if r["benchmark"] == benchmark]
    if not found:
        return {}
    wanted |= {"hardware": found[-1]["hardware"]}
    kept = [r for r in found if all(r.get(name) == value for name, value in wanted.items())]
    return {tuple(row.get(key) for key in keys): row for row in kept}


def where(points: Points) -> str:
    row = list(points.values())[-1]
    return f"{row['hardware']}, {row['date']}"


def number(row: Row, name: str) -> float:
    value = row[name]
    assert isinstance(value, int | float), (name, value)
    return float(value)
