"""Owns `LLM`: the engine in this process, with adapters from PEFT directories, for scripts and notebooks."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loraplex.adapters.blobs import FileBlobs
from loraplex.adapters.cache import AdapterCache
from loraplex.adapters.local import local_adapter
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine, EngineStats
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.engine.pooling import Method, Pooling
from loraplex.engine.request import (
    FinishReason,
    InvalidRequestError,
    Output,
    Request,
    TokenLogprob,
)
from loraplex.engine.sampling_params import SamplingParams

# Adapters kept in host memory beside those on the device; more than this are read from their directories again.
_HOST_BYTES = 4 * 1024**3

Prompt = str | Sequence[int]


class GenerationError(RuntimeError):
    """A prompt could not be completed; the message says why."""


@dataclass(slots=True)
class Completion:
    """What one prompt became.

    Attributes:
        prompt_token_ids: the prompt as the model saw it.
        text: generated text, without the stop string that ended it.
        token_ids: generated tokens, including one that ended the sequence.
        logprobs: one per generated token if `SamplingParams.logprobs` was set.
        prompt_logprobs: one per prompt token if `SamplingParams.prompt_logprobs` was set; None for the first token,
            which nothing predicts.
        finish_reason: "stop" or "length".
    """

    prompt_token_ids: list[int]
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    finish_reason: str = ""


class LLM:
    """A base model and any number of LoRA adapters, in this process.

        llm = LLM(model="path/to/base")
        llm.add_adapter("pirate", "path/to/peft")
        llm.generate(["Hello", "Hello"], SamplingParams(temperature=0), adapters=["pirate", None])

    Prompts of one call share batches, whatever their adapters.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        gpu_memory_utilization: float = 0.9,
        arena_bytes: int | None = None,
        load_format: str = "auto",
        cuda_graphs: bool = True,
        enable_prefix_cache: bool = True,
    ) -> None:
        """Load the base model; the arguments are those of `engine.config.EngineConfig`.

        Raises:
            UnsupportedModelError: the directory holds no model that can be served.
            InvalidConfigError: a setting is out of range or does not fit the machine.
        """
        path = Path(model)
        config = EngineConfig(
            model=path,
            device=device,
            dtype=dtype,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            gpu_memory_utilization=gpu_memory_utilization,
            arena_bytes=arena_bytes,
            load_format=load_format,
            cuda_graphs=cuda_graphs,
            enable_prefix_cache=enable_prefix_cache,
        )
        shape = ModelConfig.from_directory(path)
        target = resolve_device(device)
        self._modules = shape.modules()
        self._files = FileBlobs()
        self._cache = AdapterCache(
            self._files,
            self._modules,
            resolve_dtype(dtype, shape, target),
            host_bytes=_HOST_BYTES,
            pin=target.type == "cuda",
        )
        self._engine = Engine(config, self._cache)
        self._handles: dict[str, int] = {}
        self._next_handle = itertools.count()
        self._request_ids = itertools.count()

    def add_adapter(self, name: str, peft_dir: str | Path) -> None:
        """Make the adapter of a PEFT directory known under `name`; a name that exists is replaced.

        Raises:
            AdapterRejected: the directory holds no adapter that fits this base model; the message names the field.
        """
        ref, _ = local_adapter(Path(peft_dir), self._modules, self._files)
        self.remove_adapter(name)
        handle = next(self._next_handle)
        self._cache.register(handle, ref)
        self._handles[name] = handle

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter and free what it holds; an unknown name is no error."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            self._engine.unload(handle)
            self._engine.step()
            self._cache.forget(handle)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        adapters: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """Complete prompts, all in one run.

        Args:
            prompts: texts or lists of token ids; a single one is a list of one.
            params: for all prompts, or one each; None takes the defaults.
            adapters: one name, or None for the base model, per prompt; None takes the base model for all.

        Returns:
            One completion per prompt, in order.

        Raises:
            KeyError: an adapter of an unknown name.
            InvalidRequestError: a prompt that can never be completed; nothing was generated then.
            GenerationError: a prompt whose completion failed on the way, such as by an adapter with unusable values.
        """
        requests = self._requests(prompts, params, adapters)
        completions = {
            r.request_id: Completion(
                list(r.prompt_ids), logprobs=None if r.params.logprobs is None else []
            )
            for r in requests
        }
        self._run(requests, lambda output: _add(completions[output.request_id], output))
        return list(completions.values())

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        adapters: Sequence[str | None] | None = None,
        pooling: Method = "last",
        normalize: bool = True,
    ) -> list[np.ndarray]:
        """Turn prompts into vectors, all in one run.

        Args:
            prompts, adapters: as in `generate`.
            pooling: "last" takes the hidden state of the last token, "mean" the mean of all, behind the last norm.
            normalize: whether vectors are scaled to length 1.

        Returns:
            One vector per prompt, [hidden size] float32, in order.

        Raises:
            KeyError, InvalidRequestError, GenerationError: as in `generate`.
        """
        params = SamplingParams(max_tokens=0, pooling=Pooling(pooling, normalize))
        requests = self._requests(prompts, params, adapters)
        outputs: dict[str, Output] = {}
        self._run(requests, lambda output: outputs.update({output.request_id: output}))
        found = [outputs[request.request_id].embedding for request in requests]
        return [np.frombuffer(vector or b"", "<f4") for vector in found]

    def stats(self) -> EngineStats:
        """What the engine holds and has done so far."""
        return self._engine.stats()

    def _run(self, requests: list[Request], take: Callable[[Output], None]) -> None:
        """Hand over everything that comes of these requests."""
        try:
            for request in requests:
                self._engine.add(request)
            while self._engine.has_work():
                for output in self._engine.step():
                    if output.finish_reason is FinishReason.REFUSED:
                        raise InvalidRequestError(output.error or "", "structure")
                    if output.finish_reason is FinishReason.ERROR:
                        raise GenerationError(output.error)
                    take(output)
        finally:  # after an error or Ctrl-C nothing of this call stays behind
            for request in requests:
                self._engine.abort(request.request_id)

    def _requests(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        adapters: Sequence[str | None] | None,
    ) -> list[Request]:
        batch = self._token_ids(prompts)
        if params is None or isinstance(params, SamplingParams):
            params = [params or SamplingParams()] * len(batch)
        if adapters is None:
            adapters = [None] * len(batch)
        if not len(batch) == len(params) == len(adapters):
            raise ValueError(
                f"{len(batch)} prompts, {len(params)} params and {len(adapters)} adapters: give one of each per prompt."
            )
        return [
            Request(
                request_id=str(next(self._request_ids)),
                prompt_ids=ids,
                params=each,
                adapter=None if name is None else self._handles[name],
            )
            for ids, each, name in zip(batch, params, adapters, strict=True)
        ]

    def _token_ids(self, prompts: Prompt | Sequence[Prompt]) -> list[tuple[int, ...]]:
        single = isinstance(prompts, str) or (bool(prompts) and isinstance(prompts[0], int))
        result: list[tuple[int, ...]] = []
        for prompt in [prompts] if single else prompts:
            if not isinstance(prompt, str):
                result.append(tuple(int(token) for token in prompt))  # type: ignore[union-attr, arg-type]  # not a single prompt
            elif self._engine.tokenizer is None:
                raise ValueError("This model directory has no tokenizer.json; pass token ids.")
            else:
                result.append(tuple(self._engine.tokenizer.encode(prompt)))
        return result


def _add(completion: Completion, output: Output) -> None:
    """Append what a step gave."""
    completion.text += output.text
    completion.token_ids += output.token_ids
    if completion.logprobs is not None and output.logprobs is not None:
        completion.logprobs += output.logprobs
    if output.prompt_logprobs is not None:
        completion.prompt_logprobs = [None, *output.prompt_logprobs]
    if output.finish_reason is not None:
        completion.finish_reason = output.finish_reason.value
