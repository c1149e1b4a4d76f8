"""Owns the demo's adapters: what each learns, its shape, and how PEFT trains it in a few seconds."""

import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from loraplex.platform.demo.pretrain import encode_batch, exact
from loraplex.platform.demo.tasks import (
    CIPHER,
    COUNT,
    PLURAL,
    REVERSE,
    SPELL,
    VOWELS_ONLY,
    Task,
    line,
    random_word,
)

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
MAX_STEPS = 160
BATCH = 64
RATE, WARMUP_STEPS = 5e-3, 5
# Training ends once this share of the last few batches (words never seen before) was answered without a mistake.
GOOD_ENOUGH, JUDGED_BATCHES = 0.985, 5


class Recipe(NamedTuple):
    """One adapter of the demo; ranks and targets differ on purpose, since all share one batch later."""

    tenant: str
    task: Task
    rank: int
    targets: tuple[str, ...]
    rslora: bool = False

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def shape(self) -> str:
        """Rank and targets in few words."""
        where = {ATTENTION: "attention", MLP: "mlp", ATTENTION + MLP: "all linear"}
        kind = "rsLoRA" if self.rslora else "LoRA"
        return f"{kind} r={self.rank}, {where.get(self.targets, ' '.join(self.targets))}"


RECIPES = (
    Recipe("acme", REVERSE, 8, ATTENTION),
    Recipe("acme", PLURAL, 4, ("q_proj", "v_proj", "down_proj")),
    Recipe("acme", SPELL, 16, ATTENTION + MLP),
    Recipe("globex", CIPHER, 32, ATTENTION + MLP, rslora=True),
    Recipe("globex", VOWELS_ONLY, 8, MLP),
    Recipe("globex", COUNT, 12, ("v_proj", "o_proj", "up_proj")),
)


class Trained(NamedTuple):
    """A PEFT directory and how it came about; `accuracy` is over the last batches."""

    recipe: Recipe
    path: Path
    parameters: int
    steps: int
    accuracy: float
    seconds: float


def train_adapter(
    model_dir: Path,
    recipe: Recipe,
    out: Path,
    on_step: Callable[[int, float], None] = lambda step, accuracy: None,
) -> Trained:
    """Train one adapter on the base model of `model_dir` and save it to `out`, as PEFT does.

    `on_step` is told the steps done and the share of recent words answered right.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    began = time.monotonic()
    torch.manual_seed(recipe.rank)
    rng = random.Random(recipe.name)
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    base = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=2 * recipe.rank if not recipe.rslora else 8,
        target_modules=list(recipe.targets),
        use_rslora=recipe.rslora,
    )
    model = get_peft_model(base, config).train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    recent: deque[float] = deque(maxlen=JUDGED_BATCHES)
    for step in range(1, MAX_STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / WARMUP_STEPS) * (1 - 0.9 * step / MAX_STEPS)
        ids, labels = encode_batch(
            tokenizer, [line(recipe.task, random_word(rng)) for _ in range(BATCH)]
        )
        result = model(input_ids=ids, labels=labels)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(exact(result.logits.detach(), labels).float().mean().item())
        accuracy = sum(recent) / JUDGED_BATCHES
        on_step(step, accuracy)
        if accuracy >= GOOD_ENOUGH:
            break
    model.save_pretrained(str(out))
    count = sum(weight.numel() for weight in weights)
    return Trained(recipe, out, count, step, accuracy, time.monotonic() - began)
