"""Encoders that normalise behind each block as one compiled CPU kernel, where a compiler and the instructions are."""

import ctypes
import weakref
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch

from encoders.packed.bert import BertWeights, NormWeights
from encoders.packed.native_library import TILES, NativeUnavailableError, load_kernel, processor_flags
from encoders.packed.pooling import PoolingMode

InstructionSet = Literal["avx512_bf16", "amx_bf16"]

_POOLING = get_args(PoolingMode)  # in the order of forward.h
_TOKENS_A_CALL = 2**14  # of each thread: a second or two, after which Python sees Ctrl-C


def supports(weights: BertWeights, pooling: str) -> bool:
    """Whether the kernel knows this encoder: widths in steps of 32, heads of 32 or 64, GELU by the error function."""
    hidden, inner = weights.word.shape[1], weights.layers[0].up.weight.shape[0]
    head_dim = hidden // weights.num_heads
    fits = hidden % 32 == 0 and inner % 32 == 0 and head_dim in (32, 64) and head_dim * weights.num_heads == hidden
    return fits and weights.activation == "gelu" and pooling in _POOLING


class NativeEncoder:
    """Tokens to pooled vectors by bfloat16 products with float32 sums, on the CPU.

    A thread carries a few sentences at a time through all layers. The vector of a sentence is the same to the bit
    whatever the other sentences, their order and the number of threads; another instruction set rounds differently.

    Args:
        weights: of the encoder; see `supports`. The embeddings are used where they are, the rest is copied.
        pooling: mean of the tokens' hidden states, or that of the first or the last token.
        normalize: scale the vectors to length 1.
        num_threads: that share a call.
        instruction_set: that does the matrix products; None takes AMX where it is.

    Raises:
        NativeUnavailableError: no compiler, or the processor lacks the instructions.
    """

    def __init__(
        self,
        weights: BertWeights,
        *,
        pooling: PoolingMode = "mean",
        normalize: bool,
        num_threads: int,
        instruction_set: InstructionSet | None = None,
    ) -> None:
        if not supports(weights, pooling):
            raise ValueError("the compiled kernel does not know this encoder; ask supports() first")
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}")
        self._kernel = load_kernel()
        self.instruction_set = _choose_instructions(self._kernel, instruction_set)
        self._pooling, self._normalize, self._num_threads = _POOLING.index(pooling), normalize, num_threads
        self._num_words, self.dim = weights.word.shape
        self._num_positions = len(weights.position)
        self._embeddings = [_to_array(weights.word), _to_array(weights.position)]  # the kernel points into these
        arrays = [*self._embeddings, *map(_to_array, _list_weights(weights))]
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data if array.size else None for array in arrays))
        self._encoder = self._kernel.packed_new(ctypes.byref(_Shape.of(weights)), pointers)
        if not self._encoder:
            raise MemoryError("no memory for the weights of the encoder")
        weakref.finalize(self, self._kernel.packed_delete, self._encoder)

    def encode(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the pooled vectors of N sentences in their order, float32 (N, H).

        A sentence without tokens gets zeros, as from sentence-transformers.

        Args:
            ids: tokens of all sentences, behind one another, (L,).
            lengths: tokens of each sentence, (N,).

        Raises:
            ValueError: a token is not in the vocabulary, or a sentence has more tokens than there are positions.
        """
        ids = np.ascontiguousarray(ids, dtype=np.int32)
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        self._check(ids, np.asarray(lengths), int(starts[-1]))
        out = np.empty((len(lengths), self.dim), dtype=np.float32)
        first = 0
        while first < len(lengths):
            limit = starts[first] + _TOKENS_A_CALL * self._num_threads
            last = max(first + 1, int(np.searchsorted(starts, limit, side="right")) - 1)
            self._encode_some(ids, starts[first : last + 1], out[first:last])
            first = last
        return out

    def _encode_some(self, ids: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        done = self._kernel.packed_encode(
            *(self._encoder, self.instruction_set == "amx_bf16", ids.ctypes.data, starts.ctypes.data, len(out)),
            *(self._pooling, self._normalize, self._num_threads, out.ctypes.data),
        )
        if not done:
            raise MemoryError("no memory for the activations of the encoder")

    def _check(self, ids: np.ndarray, lengths: np.ndarray, total: int) -> None:
        """The kernel itself looks at no bounds."""
        if total != len(ids) or (lengths < 0).any():
            raise ValueError(
                f"lengths sum up to {total}, there are {len(ids)} tokens; give the length of each sentence"
            )
        if lengths.max(initial=0) > self._num_positions:
            raise ValueError(
                f"a sentence has {lengths.max()} tokens, the encoder {self._num_positions} positions; cut it to that"
            )
        if ids.size and (ids.min() < 0 or ids.max() >= self._num_words):
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise ValueError(f"token {wrong} is not among the encoder's {self._num_words}; use its own tokenizer")


def _choose_instructions(kernel: ctypes.CDLL, wanted: InstructionSet | None) -> InstructionSet:
    if wanted == "avx512_bf16":
        return "avx512_bf16"
    if processor_flags() >= TILES and kernel.packed_request_tiles():
        return "amx_bf16"
    if wanted == "amx_bf16":
        raise NativeUnavailableError("the processor or the operating system has no AMX")
    return "avx512_bf16"


class _Shape(ctypes.Structure):
    """Shape in encoder.h."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("hidden", "inner", "heads", "layers", "positions")),
        ("eps", ctypes.c_float),
    ]

    @classmethod
    def of(cls, weights: BertWeights) -> "_Shape":
        positions, hidden = weights.position.shape
        inner = weights.layers[0].up.weight.shape[0]
        return cls(hidden, inner, weights.num_heads, len(weights.layers), positions, weights.eps)


def _list_weights(weights: BertWeights) -> Iterator[torch.Tensor]:
    """Yields the weights behind the embeddings in the order of encoder.h."""

    def norm(part: NormWeights) -> tuple[torch.Tensor, torch.Tensor]:
        return part.weight, part.bias

    yield from norm(weights.embedding_norm)
    yield torch.empty(0) if weights.bias is None else weights.bias
    for layer in weights.layers:
        yield from (layer.qkv.weight, layer.qkv.bias, layer.out.weight, layer.out.bias, *norm(layer.attention_norm))
        yield from (layer.up.weight, layer.up.bias, layer.down.weight, layer.down.bias, *norm(layer.output_norm))


def _to_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()
