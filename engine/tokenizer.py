"""Owns text ⇄ token ids for one base model, from its `tokenizer.json`. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from loraplex.engine.model_config import UnsupportedModelError
from loraplex.engine.token_bytes import TokenBytes


class Tokenizer:
    """A fast tokenizer and what `tokenizer_config.json` says beside it.

    Attributes:
        chat_template: Jinja source of the model's chat template, None if it has none.
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
    ) -> None:
        # A tokenizer.json may carry the padding of its training run.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.token_bytes = TokenBytes.of(backend)
        self.chat_template = chat_template
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
        return cls(
            backend,
            chat_template=_chat_template(path, config),
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


def _chat_template(path: Path, config: dict[str, Any]) -> str | None:
    try:
        return (path / "chat_template.jinja").read_text()
    except OSError:
        pass
    template = config.get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
