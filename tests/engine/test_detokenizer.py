"""Text handed over piece by piece equals the text of all tokens at once, and stop strings never leak."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models

from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.tokenizer import Tokenizer
from support.checkpoints import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path)
    return Tokenizer.from_directory(path)


def stream(tokenizer: Tokenizer, text: str, stop: tuple[str, ...]) -> tuple[list[str], bool]:
    """Feed a text byte by byte; returns the pieces and whether a stop string ended it."""
    detokenizer = Detokenizer(tokenizer, tuple(tokenizer.encode("a prompt")), stop)
    pieces = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        delta = detokenizer.append((token,), check_stop=True)
        pieces.append(delta.text)
        if delta.stopped:
            return pieces, True
    rest = detokenizer.flush(check_stop=True)
    return [*pieces, rest.text], rest.stopped


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_pieces_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    pieces, stopped = stream(tokenizer, text, ())
    assert "".join(pieces) == text
    assert not stopped


def test_no_piece_holds_half_a_character(tokenizer: Tokenizer) -> None:
    pieces, _ = stream(tokenizer, "héllo 👋🏽 wörld", ())
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(
    st.text("ab\n", max_size=12),
    st.lists(st.text("ab\n", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_cut_like_find(tokenizer: Tokenizer, text: str, stop: list[str]) -> None:
    pieces, stopped = stream(tokenizer, text, tuple(stop))
    # A text that arrives character by character stops at the first moment any stop string is complete.
    ends = {text.find(s) + len(s): s for s in reversed(stop) if s in text}
    if not ends:
        assert "".join(pieces) == text
        assert not stopped
        return
    seen = text[: min(ends)]
    cut = min(seen.find(s) for s in stop if s in seen)
    assert "".join(pieces) == text[:cut]
    assert stopped


def test_invalid_bytes_at_the_end_are_flushed(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer, (), ())
    first_byte_of_two = tokenizer.encode("é", add_special_tokens=False)[0]
    assert detokenizer.append((first_byte_of_two,), check_stop=True).text == ""
    assert detokenizer.flush(check_stop=True).text == "\N{REPLACEMENT CHARACTER}"


def test_check_stop_off_ignores_stop_strings(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer, (), ("a",))
    token = tokenizer.encode("a", add_special_tokens=False)[0]
    assert detokenizer.append((token,), check_stop=False) == ("a", False)
    assert detokenizer.append((token,), check_stop=True) == ("", True)


def test_stop_string_in_text_held_back_to_the_end_is_found() -> None:
    class Glued:
        """One token that is a newline and half a character, as byte-pair vocabularies have them."""

        token_bytes = None

        def decode(self, ids: list[int]) -> str:
            return "\n\N{REPLACEMENT CHARACTER}" * len(ids)

    detokenizer = Detokenizer(Glued(), (), ("\n",))  # type: ignore[arg-type]  # all it needs
    assert detokenizer.append((1,), check_stop=True) == ("", False)
    assert detokenizer.flush(check_stop=True) == ("", True)


def test_tokens_without_text_do_not_grow_the_work(tokenizer: Tokenizer) -> None:
    class Counting:
        token_bytes = None
        longest = 0

        def decode(self, ids: list[int]) -> str:
            self.longest = max(self.longest, len(ids))
            return tokenizer.decode(ids)

    counting = Counting()
    detokenizer = Detokenizer(counting, (), ())  # type: ignore[arg-type]  # all it needs
    byte = tokenizer.encode("\u00e9", add_special_tokens=False)[0]
    for token in (256, byte):  # a special token; a byte that never becomes a character
        for _ in range(300):
            detokenizer.append((token,), check_stop=True)
    assert counting.longest < 64


# A vocabulary with every byte, and tokens that cut characters anywhere.
PIECES = ["é", "\u20ac", " a", "the", "\N{REPLACEMENT CHARACTER}", "\U0001f44b"]


def byte_level() -> Tokenizer:
    """A byte-level tokenizer with a special token and an added one that is none."""
    names = ByteNames()
    vocab = {names.of(bytes([byte])): byte for byte in range(256)}
    for piece in PIECES:
        data = piece.encode()
        for cut in range(1, len(data) + 1):
            for part in (data[:cut], data[cut:], data[-1:] + data[:cut]):
                if part:
                    vocab.setdefault(names.of(part), len(vocab))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    backend.add_tokens(["<tool call>", "<tool>", "naïve"])
    return Tokenizer(backend, chat_template=None, bos_token=None, eos_token=None)


class ByteNames:
    """Writes bytes as byte-level vocabularies do, by asking the library's own pre-tokenizer."""

    def __init__(self) -> None:
        self._pre = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())

    def of(self, data: bytes) -> str:
        return "".join(self._name(byte) for byte in data)

    def _name(self, byte: int) -> str:
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE:
            return chr(byte)
        hidden = [c for c in self._alphabet if ord(c) > 0xFF]
        order = [b for b in range(256) if not (0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE)]
        return hidden[order.index(byte)]


BYTE_LEVEL = byte_level()
TOKENS = 300


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, TOKENS + 2), max_size=40), st.integers(0, 40))
def test_bytes_of_any_tokens_join_to_the_librarys_text(ids: list[int], cut: int) -> None:
    """Also for invalid bytes, special tokens and ids nobody knows, wherever the prompt ends."""
    assert BYTE_LEVEL.token_bytes is not None
    prompt, output = tuple(ids[:cut]), ids[cut:]
    detokenizer = Detokenizer(BYTE_LEVEL, prompt, ())
    text = "".join(detokenizer.append((token,), check_stop=True).text for token in output)
    text += detokenizer.flush(check_stop=True).text
    context = list(prompt[-5:])
    assert text == BYTE_LEVEL.decode(context + output)[len(BYTE_LEVEL.decode(context)) :]


def test_a_tokenizer_that_joins_otherwise_is_decoded_in_windows() -> None:
    backend = tokenizers.Tokenizer(models.BPE(vocab={"▁a": 0, "▁b": 1, "c": 2}, merges=[]))
    backend.decoder = decoders.Metaspace()
    tokenizer = Tokenizer(backend, chat_template=None, bos_token=None, eos_token=None)
    assert tokenizer.token_bytes is None
    detokenizer = Detokenizer(tokenizer, (0,), ())
    pieces = [detokenizer.append((token,), check_stop=True).text for token in (1, 2, 0)]
    assert pieces == [" b", "c", " a"]
