"""Owns how the demo's base model came to be: `python -m loraplex.platform.demo.pretrain` trains it anew on a CPU.

Each training document is a few lines of one operation drawn at random, so the model learns to carry out all of them
and to infer from earlier lines which one is meant. Asked without earlier lines it can only guess, and since copying is
the most frequent operation it repeats the word: which operation is wanted is left for an adapter to say.

The shipped weights are those of `--threads 1`; another number of threads rounds differently.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.tasks import ARROW, COPY, POOL, REVERSE, line, random_word

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

BOS, EOS = "<s>", "</s>"
SPECIAL = (BOS, EOS)
# A chat is the lines of a document: what the user says is the word, what the assistant says the answer.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] }} ->"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
)
# Copying is the base model's guess when nothing is said; writing backwards is by far the hardest to learn.
WEIGHTS = [{COPY: 4, REVERSE: 3}.get(task, 1) for task in POOL]
LINES = 4
LINES_PER_BATCH = 96
RATE, WARMUP_STEPS = 3e-3, 100
IGNORED = -100


def build_tokenizer() -> "Tokenizer":
    """One token per byte, then begin and end of text; begin is added in front of every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    # Specials come first, so bytes follow in the order of the byte-level alphabet.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=None, special_tokens=[(BOS, vocabulary[BOS])]
    )
    return tokenizer


def document(rng: random.Random, lines: int) -> str:
    """Some lines of one operation."""
    task = rng.choices(POOL, WEIGHTS)[0]
    return "\n".join(line(task, random_word(rng)) for _ in range(lines))


def encode_batch(tokenizer: "Tokenizer", texts: list[str]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and labels, both int64 [texts, longest]; labels are answers with the newline or end of text after them.

    Padding stands on the right, where causal attention never looks back at it: no attention mask is needed.
    """
    import torch

    eos, arrow = tokenizer.token_to_id(EOS), tokenizer.encode(ARROW).ids[-1]
    newline = tokenizer.encode("\n").ids[-1]
    rows = [[*tokenizer.encode(text).ids, eos] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [eos] * (width - len(row)) for row in rows])
    labels = torch.full_like(ids, IGNORED)
    for row, target in zip(rows, labels, strict=True):
        answering = False
        for position, token in enumerate(row):
            if answering:
                target[position] = token
            answering = token == arrow or (answering and token != newline)
    return ids, labels


def exact(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
    """Which rows a greedy decoder would answer without a mistake: bool [rows].

    `logits` is [rows, tokens, vocabulary], `labels` as `encode_batch` makes them.
    """
    wanted = labels[:, 1:]
    right: torch.Tensor = (logits[:, :-1].argmax(-1) == wanted) | (wanted == IGNORED)
    return right.all(1)


def new_model(tokenizer: "Tokenizer") -> "LlamaForCausalLM":
    """A Llama of 0.6 million parameters with random weights, fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def train(steps: int, seed: int) -> tuple["LlamaForCausalLM", "Tokenizer"]:
    """Train for `steps` batches of fresh text, with warm-up and a falling learning rate."""
    import torch

    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer()
    model = new_model(tokenizer).train()
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    began, loss_sum = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / WARMUP_STEPS) * (1 - 0.98 * step / steps)
        # As many lines in every document of a batch: little padding.
        lines = rng.randint(1, LINES)
        texts = [document(rng, lines) for _ in range(LINES_PER_BATCH // lines)]
        ids, labels = encode_batch(tokenizer, texts)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss_sum += loss.item()
        if step % 100 == 0:
            minutes = (time.monotonic() - began) / 60
            print(f"step {step}/{steps} loss {loss_sum / 100:.3f} {minutes:.1f} min", flush=True)
            loss_sum = 0.0
    return model.eval(), tokenizer


def report(model: "LlamaForCausalLM", tokenizer: "Tokenizer", items: int = 200) -> None:
    """Print per operation how many held-out words are answered right, after three lines of it and without any."""
    import torch

    rng = random.Random(1)
    for task in POOL:
        shares = []
        for count in (LINES, 1):
            texts = [
                "\n".join(line(task, random_word(rng, kept_out=True)) for _ in range(count))
                for _ in range(items)
            ]
            ids, labels = encode_batch(tokenizer, texts)
            for row, text in zip(labels, texts, strict=True):
                before_answer = len(tokenizer.encode(text[: text.rindex(ARROW) + len(ARROW)]).ids)
                row[:before_answer] = IGNORED
                # Whether another line would follow cannot be known, so how the answer ends is not judged.
                row[len(tokenizer.encode(text).ids) :] = IGNORED
            with torch.inference_mode():
                shares.append(exact(model(input_ids=ids).logits, labels).float().mean().item())
        print(f"{task.name:8} after three lines {shares[0]:5.1%}   alone {shares[1]:5.1%}")


def save(model: "LlamaForCausalLM", tokenizer: "Tokenizer", path: Path) -> None:
    """Write a Hugging Face checkpoint in half precision."""
    path.mkdir(parents=True, exist_ok=True)
    model.half()  # type: ignore[no-untyped-call] # transformers leaves it so
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    """Train, report and save."""
    import torch

    parser = argparse.ArgumentParser(description="Train the demo's base model.")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=demo_model_dir())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model, tokenizer = train(chosen.steps, chosen.seed)
    report(model, tokenizer)
    save(model, tokenizer, chosen.out)


if __name__ == "__main__":
    main()
