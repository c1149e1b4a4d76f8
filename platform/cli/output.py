"""Owns how client commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
tenant_option = click.option("--tenant", help="With an operator's key: the tenant that is meant.")


def print_json(value: object) -> None:
    """Indented JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """A table; plain and never cut when standard output is no terminal."""
    width = None if sys.stdout.isatty() else 10_000
    # What others named themselves is shown as it is: no markup, and no commands to the terminal.
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*(_cell(value) for value in line))
    console.print(table, crop=False)


def size_text(size: object) -> str:
    """Bytes for people."""
    number = float(size) if isinstance(size, int) else 0.0
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def tenant_query(tenant: str | None) -> dict[str, str]:
    """The query that names a tenant, if one was given."""
    return {} if tenant is None else {"tenant": tenant}


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list):
        return _cell(", ".join(str(item) for item in value))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
