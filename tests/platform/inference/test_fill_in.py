"""Prompts with a suffix: each family of models sees its own markers, others are refused."""

from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.fill_in import FAMILIES, Markers, continued, gap_of
from support.checkpoints import write_tokenizer


def marked(folder: Path, *extra: str) -> Tokenizer:
    """A tokenizer of bytes that knows further tokens."""
    write_tokenizer(folder)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens(list(extra))
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.from_directory(folder)


@pytest.mark.parametrize("markers", FAMILIES, ids=["qwen", "starcoder", "code llama", "deepseek"])
def test_the_parts_stand_between_the_models_own_markers(markers: Markers, tmp_path: Path) -> None:
    tokenizer = marked(tmp_path, *filter(None, markers))
    gap = gap_of(tokenizer)
    ids = gap.around(tokenizer.encode("ab", add_special_tokens=False), continued(tokenizer, "\ncd"))
    told = [tokenizer.token_text(token) for token in ids]
    assert told == ["<s>", markers.before, "a", "b", markers.behind, "\n", "c", "d", markers.middle]
    ends = () if markers.end is None else (tokenizer.token_id(markers.end),)
    assert gap.stop == ends


def test_a_model_that_fills_no_gaps_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError) as error:
        gap_of(marked(tmp_path, "<fim_prefix>", "<fim_suffix>"))  # no middle
    assert (error.value.param, error.value.code) == ("suffix", "unsupported_value")


def test_a_suffix_gets_no_space_in_front() -> None:
    """Tokenizers of the SentencePiece kind mark the beginning of a text with one."""
    mark = "\N{LOWER ONE EIGHTH BLOCK}"
    vocab = {token: i for i, token in enumerate([mark, mark + "x", "x", "\N{WHITE SMILING FACE}"])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[(mark, "x")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = Tokenizer(backend, chat_template=None, bos_token=None, eos_token=None)
    assert tokenizer.token_bytes is None
    assert tokenizer.encode("x") == [vocab[mark + "x"]]
    assert continued(tokenizer, "x") == [vocab["x"]]
