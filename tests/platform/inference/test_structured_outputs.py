"""Structures are looked at where requests come in only as far as that holds up nobody else."""

import pytest

from loraplex.engine.structure import Structure, StructureError
from loraplex.platform.inference.structured_outputs import CHECKED_AT_ONCE, check_briefly


def test_only_short_structures_are_looked_at() -> None:
    with pytest.raises(StructureError, match="ends too early"):
        check_briefly(Structure("regex", "("))
    check_briefly(Structure("regex", "(" * (CHECKED_AT_ONCE + 1)))
