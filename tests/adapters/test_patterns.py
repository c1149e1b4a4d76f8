"""Patterns of strangers select what PEFT would select, under RE2."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key, match_target_against_key

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.patterns import UnsupportedPatternError, full_matcher, suffix_matcher

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.k_proj",
    "model.layers.10.mlp.up_proj",
    "model.embed_tokens",
    "lm_head",
]
PARTS = ["model", "layers", "0", "1", "q_proj", "k_proj", "lm_head", "mlp"]
GLUE = [".", r"\.", ".*", "|", "^", "$", "(", ")", "[01]", r"\d+", "?", "+", "(?:", r"\b", ".*?"]
patterns = st.lists(st.sampled_from(PARTS + GLUE), min_size=1, max_size=7).map("".join)


@given(patterns)
def test_selects_what_peft_selects(pattern: str) -> None:
    try:
        re.compile(pattern)
        suffix, full = suffix_matcher("f", pattern), full_matcher("f", pattern)
    except (re.error, AdapterRejected, UnsupportedPatternError):
        return
    for name in NAMES:
        # PEFT returns the name itself when no pattern matches.
        marked = {pattern: 1}.get(get_pattern_key([pattern], name)) == 1
        assert suffix(name) == marked
        assert full(name) == bool(match_target_against_key(pattern, name))


@pytest.mark.parametrize("pattern", ["(", "a)|(b", "*", "[", "a{1000}{1000}", ""])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(AdapterRejected) as caught:
        suffix_matcher("rank_pattern", pattern)
    assert caught.value.field == "rank_pattern"


def test_long_patterns_are_refused() -> None:
    with pytest.raises(AdapterRejected, match="8192"):
        full_matcher("target_modules", "a|" * 5000)


@pytest.mark.parametrize("pattern", [r"(?!lm_head).*", r"(?<=\.)q_proj", r"(q)\1"])
def test_what_re2_lacks_is_told_apart(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        full_matcher("target_modules", pattern)


def test_exponential_patterns_take_no_time() -> None:
    matches = full_matcher("target_modules", r"(a|a|aa)+(\w+)+(\w*)*\.never")
    # Under backtracking this would not end before the universe.
    started = time.process_time()
    assert not any(matches("a" * 200) for _ in range(20))
    assert time.process_time() - started < 10
