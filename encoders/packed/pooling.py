from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from encoders.packed.ops import Batch, Ops

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PoolingMode = Literal["mean", "cls", "lasttoken"]


@dataclass(frozen=True)
class Pooling:
    """What a sentence-transformers model does behind its transformer: tokens to one vector, and that vector to another.

    Attributes:
        mode: "mean", "cls" (the first token) or "lasttoken".
        normalize: scale the pooled vector to length 1.
        rest: modules of sentence-transformers that come then, in float32 on the device of the operations.
        truncate_dim: keep this many of the first dimensions, at the very end; None keeps all.
    """

    mode: PoolingMode
    normalize: bool
    rest: tuple[nn.Module, ...]
    truncate_dim: int | None = None

    def __call__(self, x: Tensor, batch: Batch, ops: Ops) -> Tensor:
        """Returns the concepts (n, D), float32, of a pack's hidden states (L, H)."""
        if self.mode == "mean":
            return self.finish(ops.pool_mean(x, batch, self.normalize))
        token = batch.starts[:-1] if self.mode == "cls" else batch.starts[1:] - 1
        pooled = x[token].float()
        return self.finish(nn.functional.normalize(pooled, dim=1) if self.normalize else pooled)

    def finish(self, pooled: Tensor) -> Tensor:
        """Returns the concepts (n, D) of pooled vectors (n, H)."""
        for module in self.rest:
            pooled = module({"sentence_embedding": pooled})["sentence_embedding"]
        return pooled if self.truncate_dim is None else pooled[:, : self.truncate_dim]


def read_pooling(model: "SentenceTransformer", device: torch.device) -> Pooling:
    """Returns what comes behind the transformer of a model.

    Raises:
        NotImplementedError: it has other modules than pooling by mean, first or last token, Dense, LayerNorm and
            Normalize.
    """
    from sentence_transformers.sentence_transformer import modules

    transformer, pooling, *rest = [*model, None, None][: max(len(model), 2)]
    if type(transformer) is not modules.Transformer or type(pooling) is not modules.Pooling:
        raise NotImplementedError("it is not a transformer with a pooling behind it")
    if pooling.pooling_mode not in get_args(PoolingMode):
        raise NotImplementedError(f"its pooling is {pooling.pooling_mode!r}")
    if not pooling.include_prompt and model.default_prompt_name is not None:
        raise NotImplementedError("its pooling leaves out the tokens of the prompt")
    for module in rest:
        is_known = type(module) in (modules.Dense, modules.LayerNorm, modules.Normalize)
        if not is_known or getattr(module, "module_input_name", "sentence_embedding") != "sentence_embedding":
            raise NotImplementedError(f"it has a {type(module).__name__} behind its pooling")
    normalize = bool(rest) and type(rest[0]) is modules.Normalize
    kept = tuple(module.float().eval().to(device) for module in rest[normalize:])
    return Pooling(pooling.pooling_mode, normalize, kept, model.truncate_dim)
