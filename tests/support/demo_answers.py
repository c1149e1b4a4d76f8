"""Greedy answers of the demo model, or of an adapter on it, decoded one word at a time by transformers."""

from typing import Any

import torch
from transformers import AutoTokenizer

from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.tasks import prompt


def greedy_answers(model: Any, words: list[str]) -> list[str]:
    """What `model` (a transformers or PEFT model) says to each word, up to a newline or the end of text."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model_dir())
    stops = [tokenizer.eos_token_id, *tokenizer.encode("\n", add_special_tokens=False)]
    texts = []
    for word in words:
        ids = tokenizer(prompt(word), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=20,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=tokenizer.eos_token_id,
            )
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        texts.append(str(text).strip())
    return texts
