"""Makes one table of all recorded results: benchmarks/results/summary.csv.

python benchmarks/summary.py [--output FILE]
"""

import argparse
import csv
import json
import os
from pathlib import Path

from results_file import RESULTS

# First and last columns; those between stand in the order in which they first occur.
_FIRST, _LAST = ["benchmark"], ["hardware", "torch", "commit", "date"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    folder = Path(os.environ.get("LORAPLEX_RESULTS", RESULTS))
    rows = all_rows(folder)
    named = [*_FIRST, *_LAST]
    between = [
        name for name in dict.fromkeys(key for row in rows for key in row) if name not in named
    ]
    output = args.output or folder / "summary.csv"
    with output.open("w", newline="") as file:
        table = csv.DictWriter(file, [*_FIRST, *between, *_LAST], lineterminator="\n")
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    print(f"{len(rows)} rows in {output}")


def all_rows(folder: Path) -> list[dict[str, object]]:
    """Every recorded row, by file and then in the order of measuring; each names its benchmark."""
    return [
        {"benchmark": path.stem, **json.loads(line)}
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


if __name__ == "__main__":
    main()
