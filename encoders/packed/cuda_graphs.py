"""Packs through an encoder on a GPU without waiting: captured graphs, and copies both ways beside the work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.packed.ops import Batch
from encoders.packed.pack import Pack
from encoders.packed.triton_ops import attention_block

_STEPS = 16  # sizes of graphs up to the budget: a full pack is padded by 3 % on average
_ALIGNMENT = 128  # rows that a program of a product has
_TOKENS_EACH = 8  # of a sentence, at least, on average; an empty place costs a program that ends at once
_AHEAD = 2  # packs on the card while the host prepares the next


@dataclass(frozen=True)
class GraphSize:
    """What a captured graph has room for.

    Attributes:
        tokens: L.
        sentences: n.
        longest: tokens of a sentence.
    """

    tokens: int
    sentences: int
    longest: int

    @property
    def num_inputs(self) -> int:
        """Numbers that say what a batch holds: ids, positions and starts."""
        return 2 * self.tokens + self.sentences + 1


def choose_size(pack: Pack, *, budget: int, longest_block: int) -> GraphSize | None:
    """Returns the size of the graph that takes a pack; None if none does: sentences too long, or too many short ones.

    There is at least one token behind the last sentence, so that an empty place in the batch begins at a token too.
    """
    step = -(-budget // (_STEPS * _ALIGNMENT)) * _ALIGNMENT
    tokens = (len(pack.ids) // step + 1) * step
    sentences = tokens // _TOKENS_EACH
    if pack.longest > longest_block or len(pack.lengths) > sentences:
        return None
    return GraphSize(tokens, sentences, attention_block(pack.longest))


def pad_pack(pack: Pack, size: GraphSize, out: np.ndarray) -> None:
    """Writes ids, positions and starts of a pack behind one another, padded to a size, into int32 (2L + n + 1).

    Dummy tokens belong to no sentence, and dummy sentences have no token: all begin where the last real one ends.
    """
    num_tokens, tokens = len(pack.ids), size.tokens
    ids, positions, starts = out[:tokens], out[tokens : 2 * tokens], out[2 * tokens :]
    ids[:num_tokens], ids[num_tokens:] = pack.ids, 0
    positions[:num_tokens], positions[num_tokens:] = pack.positions, 0
    starts[: len(pack.starts)], starts[len(pack.starts) :] = pack.starts, num_tokens


class GraphedEncoder:
    """Concepts of packs, on a GPU; while it has some, the host prepares the next, and copies go beside the work.

    For each size that turns up, the whole encoder is captured once as a graph and replayed from then on: one launch
    for about fifty. What no graph takes is launched one kernel after the other. All graphs work in the same memory.

    Args:
        embed: a batch to its concepts (n, D); asks the host for nothing, else it cannot be captured.
        budget: tokens a pack.
        longest_block: tokens of a sentence up to which `embed` does the same for any batch of a size.
        device: the GPU.
    """

    def __init__(
        self, embed: Callable[[Batch], Tensor], *, budget: int, longest_block: int, device: torch.device
    ) -> None:
        self._embed, self._device = embed, device
        self._budget, self._longest_block = budget, longest_block
        self._graphs: dict[GraphSize, _Graph] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._upload, self._download = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def encode(self, packs: Iterable[Pack]) -> Iterator[np.ndarray]:
        """Yields the concepts (n, D) of one pack after the other.

        Raises:
            torch.OutOfMemoryError: in place of the concepts of the pack that does not fit.
        """
        flights: deque[_Flight] = deque()
        for pack in packs:
            try:
                flights.append(self._launch(pack))
            except torch.OutOfMemoryError:
                yield from (flight.land() for flight in flights)
                raise
            if len(flights) > _AHEAD:
                yield flights.popleft().land()
        while flights:
            yield flights.popleft().land()

    @torch.inference_mode()
    def _launch(self, pack: Pack) -> "_Flight":
        size = choose_size(pack, budget=self._budget, longest_block=self._longest_block)
        shape = size or GraphSize(len(pack.ids), len(pack.lengths), pack.longest)
        # PyTorch keeps pinned memory for the next pack, and hands it out again only when the copy from it is done.
        staged = torch.empty(shape.num_inputs, dtype=torch.int32, pin_memory=True)
        pad_pack(pack, shape, staged.numpy())
        with torch.cuda.device(self._device):  # Triton launches where the current device is
            main = torch.cuda.current_stream()
            with torch.cuda.stream(self._upload):
                inputs = staged.to(self._device, non_blocking=True)
            main.wait_stream(self._upload)
            inputs.record_stream(main)
            if size is None:
                concepts = self._embed(_batch(inputs, shape, pack.runs))
            else:
                concepts = self._graph(size).run(inputs, len(pack.lengths))
            self._download.wait_stream(main)
            with torch.cuda.stream(self._download):
                landed = torch.empty(concepts.shape, dtype=concepts.dtype, pin_memory=True)
                landed.copy_(concepts, non_blocking=True)
                concepts.record_stream(self._download)
                return _Flight(landed, self._download.record_event())

    def _graph(self, size: GraphSize) -> "_Graph":
        if size not in self._graphs:
            self._graphs[size] = _Graph(self._embed, size, self._device, self._memory)
        return self._graphs[size]


class _Graph:
    """The encoder captured at one size."""

    def __init__(
        self, embed: Callable[[Batch], Tensor], size: GraphSize, device: torch.device, memory: "torch.cuda._POOL_HANDLE"
    ) -> None:
        self._inputs = torch.zeros(size.num_inputs, dtype=torch.int32, device=device)
        batch = _batch(self._inputs, size, [])
        embed(batch)  # compiles the kernels, and runs out of memory here if at all: a capture would hide the reason
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"):
            self._concepts = embed(batch)

    def run(self, inputs: Tensor, num_sentences: int) -> Tensor:
        """Returns the concepts of a padded pack, as a copy: the next graph may write where they were."""
        self._inputs.copy_(inputs)
        self._graph.replay()
        return self._concepts[:num_sentences].clone()


@dataclass(frozen=True)
class _Flight:
    """Concepts on their way to the host."""

    concepts: Tensor
    arrival: torch.cuda.Event

    def land(self) -> np.ndarray:
        self.arrival.synchronize()
        return self.concepts.numpy()


def _batch(inputs: Tensor, size: GraphSize, runs: list[tuple[int, int]]) -> Batch:
    ids, positions, starts = inputs.split([size.tokens, size.tokens, size.sentences + 1])
    return Batch(ids, positions, starts, runs, size.longest)
