"""Owns the estimate of what steps allocate beside the weights and the pools: sums of the largest tensors that are there
at the same time, so that the pools can have the rest."""

import torch

from loraplex.engine.config import MAX_RANK, EngineConfig
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.piece_graphs import MOST_TOKENS
from loraplex.engine.prompt_scores import SLICE_ROWS
from loraplex.kernels.attention.plan import most_parts
from loraplex.kernels.attention.tiles import MOST_KEYS_PER_QUERY
from loraplex.kernels.language import power_of_two

# Partial sums of a LoRA intermediate (kernels/lora/tuning.py): per token, and of steps of few tokens.
SPLITS = 4
FEW_TOKENS, SPLITS_OF_FEW = 512, 32
# Slices of a fused projection and of the next one, which begins while the first is still there.
_SLICES = 3 + 1
# Workspaces of cuBLAS, captured graphs beside their tensors, tables and lists of a step, penalties, and what the
# allocator cannot use again.
_REST = 512 * 1024**2


def step_bytes(config: EngineConfig, model: ModelConfig, dtype: torch.dtype) -> int:
    """Most bytes that steps take on a GPU: one outside of graphs, and the largest of either kind of graph, which have
    memory of their own."""
    sequences = config.max_num_seqs
    total = _REST + _sampling(model, dtype, sequences, graphs=config.cuda_graphs)
    # Logits of a slice of prompts whose log-probabilities are asked for, and what is searched for the likeliest.
    total += SLICE_ROWS * (model.vocab_size * dtype.itemsize + model.vocab_size // 4)
    total += _forward(model, dtype, config.max_num_batched_tokens, sequences)
    if config.cuda_graphs:
        total += _forward(model, dtype, sequences, sequences)
        total += _forward(model, dtype, min(config.max_num_batched_tokens, MOST_TOKENS), sequences)
    return total


def _forward(model: ModelConfig, dtype: torch.dtype, tokens: int, sequences: int) -> int:
    """A pass over so many tokens. The widest moments of a layer are its MLP (gate, up and their product) and its
    attention (queries, keys, values, result, and what attention needs for itself); hidden states are there in both."""
    kv_width = model.num_kv_heads * model.head_dim
    q_width = model.num_heads * model.head_dim
    mlp = 3 * model.intermediate_size * tokens * dtype.itemsize
    attention = (2 * q_width + 2 * kv_width) * tokens * dtype.itemsize
    if dtype is not torch.float32 and 0 in model.sliding_windows:
        attention += MOST_KEYS_PER_QUERY * tokens * 2 * kv_width * dtype.itemsize
    group = power_of_two(model.num_heads // model.num_kv_heads)
    attention += most_parts(sequences) * group * kv_width * torch.float32.itemsize
    hidden = 5 * model.hidden_size * tokens * dtype.itemsize
    partial_sums = max(SPLITS * tokens, SPLITS_OF_FEW * min(tokens, FEW_TOKENS))
    lora = _SLICES * partial_sums * MAX_RANK * torch.float32.itemsize
    return hidden + max(mlp, attention) + lora


def _sampling(model: ModelConfig, dtype: torch.dtype, rows: int, *, graphs: bool) -> int:
    """Logits (of a step, of a graph, and the result that all graphs share) and, for rows that penalties, biases or
    minimum lengths change, a copy in the same dtype and one in float32. Log-probabilities take a copy when these are
    gone. The search for cuts keeps two numbers per 32 logits."""
    logits = 3 if graphs else 1
    per_logit = (logits + 1) * dtype.itemsize + torch.float32.itemsize
    return rows * (model.vocab_size * per_logit + model.vocab_size // 4)
