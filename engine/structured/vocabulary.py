"""Owns the bytes that every token of a vocabulary adds to a text, as grammars have to know them."""

import json

import tokenizers

from loraplex.engine.structure import StructureError
from loraplex.engine.token_bytes import byte_characters

# How SentencePiece vocabularies write a space.
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def token_pieces(backend: tokenizers.Tokenizer, size: int) -> list[bytes]:
    """By token id, for ids below `size`; b"" for special tokens and ids without a token, which are no text.

    Raises:
        StructureError: what a token stands for depends on its neighbours.
    """
    added = backend.get_added_tokens_decoder()
    decoder = json.loads(backend.to_str())["decoder"]
    kinds = _kinds(decoder)
    characters = {character: byte for byte, character in byte_characters().items()}
    pieces = [b""] * size
    for name, token in backend.get_vocab(with_added_tokens=True).items():
        if token >= size:
            continue
        if token in added:
            pieces[token] = b"" if added[token].special else name.encode()
        elif "ByteLevel" in kinds:
            pieces[token] = _byte_level(name, characters)
        elif kinds & {"Metaspace", "ByteFallback"}:
            pieces[token] = _sentence_piece(name)
        else:
            raise StructureError("Structured output is not available with this model's tokenizer.")
    return pieces


def _kinds(decoder: object) -> set[str]:
    """Names of a decoder's parts."""
    if not isinstance(decoder, dict):
        return set()
    parts = decoder.get("decoders", ())
    return {str(decoder.get("type"))}.union(*(_kinds(part) for part in parts))


def _byte_level(name: str, characters: dict[str, int]) -> bytes:
    if characters.keys() >= set(name):
        return bytes(characters[character] for character in name)
    return name.encode()


def _sentence_piece(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes.fromhex(name[3:5])
    return name.replace(_SPACE, " ").encode()
