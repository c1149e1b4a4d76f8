"""Owns text ⇄ token ids for one base model, from its `tokenizer.json`. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from loraplex.engine.model_config import UnsupportedModelError
from loraplex.engine.structured.vocabulary import token_pieces
from loraplex.engine.token_bytes import TokenBytes


class Tokenizer:
    """A fast tokenizer and what `tokenizer_config.json` says beside it.

    Attributes:
        chat_template: Jinja source of the model's chat template, None if it has none.
        tool_template: that for conversations with functions, None if it is the same.
        bos_token, eos_token: their texts, None if the model has none.
        token_bytes: what each token stands for, None if that depends on its neighbours.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        chat_template: str | None,
        bos_token: str | None,
        eos_token: str | None,
        tool_template: str | None = None,
    ) -> None:
        # A tokenizer.json may carry the padding of its training run.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.token_bytes = TokenBytes.of(backend)
        self.chat_template = chat_template
        self.tool_template = tool_template
        self.bos_token = bos_token
        self.eos_token = eos_token

    @classmethod
    def from_directory(cls, path: Path) -> "Tokenizer":
        """Read `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`.

        Raises:
            UnsupportedModelError: there is no readable tokenizer.json.
        """
        file = path / "tokenizer.json"
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception for every kind of trouble
            raise UnsupportedModelError(
                f"{file} cannot be read ({error}); save the tokenizer in its fast format."
            ) from error
        config = _read_json(path / "tokenizer_config.json")
        templates = _chat_templates(path, config)
        return cls(
            backend,
            chat_template=templates.get("default"),
            tool_template=templates.get("tool_use"),
            bos_token=_token_text(config.get("bos_token")),
            eos_token=_token_text(config.get("eos_token")),
        )

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return self.encode_batch([text], add_special_tokens=add_special_tokens)[0]

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Encode several texts. Other threads run meanwhile; the library's call for one text would hold them up."""
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        text: str = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def token_text(self, token_id: int) -> str:
        """Text of one token on its own, special tokens included."""
        return self.decode([token_id], skip_special_tokens=False)

    def names(self, ids: list[int]) -> list[str]:
        """What the vocabulary calls each token; "" for one without a name."""
        return [self._backend.id_to_token(token_id) or "" for token_id in ids]

    def pieces(self, size: int) -> list[bytes]:
        """See `token_pieces`."""
        return token_pieces(self._backend, size)

    def special_id(self, token: str) -> int | None:
        """Id of a special token, which decoding leaves out; None for any other text."""
        found = self.token_id(token)
        if found is None:
            return None
        added = self._backend.get_added_tokens_decoder().get(found)
        return found if added is not None and added.special else None

    def token_id(self, token: str) -> int | None:
        found: int | None = self._backend.token_to_id(token)
        return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _token_text(value: object) -> str | None:
    """Special tokens are written as a string or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _chat_templates(path: Path, config: dict[str, Any]) -> dict[str, str]:
    """Templates by name: the newer files go before what the configuration says."""
    found = config.get("chat_template")
    templates = {}
    if isinstance(found, list):  # several named templates
        templates = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
    elif isinstance(found, str):
        templates = {"default": found}
    templates |= {
        file.stem: file.read_text() for file in path.glob("additional_chat_templates/*.jinja")
    }
    if (file := path / "chat_template.jinja").is_file():
        templates["default"] = file.read_text()
    return {
        name: text
        for name, text in templates.items()
        if isinstance(name, str) and isinstance(text, str)
    }
