"""Tables show what others named themselves as it is, and nothing in it does anything."""

import pytest

from loraplex.platform.cli.output import print_table


def test_names_are_neither_markup_nor_commands(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "LIST"), [["[/b] a:smile:", ["[red]x", "\x1b[31my\x9b2J\nz"]]])
    shown = capsys.readouterr().out
    assert "[/b] a:smile:" in shown
    assert "[red]x, �[31my�2J�z" in shown
