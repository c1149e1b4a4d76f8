"""Owns the bytes each token stands for, in tokenizers that join tokens byte by byte (GPT, Llama 3, Qwen, ...)."""

import codecs

import tokenizers
from tokenizers import decoders


class TokenBytes:
    """Bytes by token id, looked up once and kept. The text of any tokens is that of their joined bytes, because a
    byte-level decoder does nothing but join."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._characters = {character: byte for byte, character in byte_characters().items()}
        self._known: dict[int, bytes] = {}

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> "TokenBytes | None":
        """None for a tokenizer of another kind, whose tokens change with their neighbours."""
        return cls(backend) if isinstance(backend.decoder, decoders.ByteLevel) else None

    def joined(self, token_ids: tuple[int, ...]) -> bytes:
        """The bytes of several tokens; special tokens and unknown ids have none."""
        known = self._known
        try:
            if len(token_ids) == 1:
                return known[token_ids[0]]
            return b"".join([known[token] for token in token_ids])
        except KeyError:
            for token in token_ids:
                if token not in known:
                    known[token] = self._look_up(token)
            return self.joined(token_ids)

    def _look_up(self, token: int) -> bytes:
        text: str = self._backend.decode([token])
        # A token that holds part of a character shows it only in its name.
        name = self._backend.id_to_token(token) if "\N{REPLACEMENT CHARACTER}" in text else None
        if name is not None and self._characters.keys() >= set(name):
            return bytes(self._characters[character] for character in name)
        return text.encode()


def decode_start(data: bytes) -> tuple[str, bytes]:
    """The text of all characters that are complete, and the bytes of one that may still become so. What can never be a
    character is replaced, as the tokenizers library does it."""
    text, used = codecs.utf_8_decode(data, "replace", False)
    return text, data[used:]


def byte_characters() -> dict[int, str]:
    """The printable character by which byte-level vocabularies write each byte: itself if it can be seen, else the next
    one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = (byte for byte in range(0x100) if byte not in seen)
    return {byte: chr(byte) for byte in seen} | {
        byte: chr(0x100 + i) for i, byte in enumerate(unseen)
    }
