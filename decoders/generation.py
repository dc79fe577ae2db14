"""Writing many rows of tokens at once: a search with a cache of keys and values that leaves finished rows behind."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NUCLEUS = 128  # tokens sorted to find a nucleus; where it is larger all are
Tilt = Callable[[Tensor, Tensor], Tensor]  # logits (N, V), rows (N,) of the prompt -> logits (N, V)


@dataclass(frozen=True)
class Rules:
    """What a search may write.

    Attributes:
        end: id of the end token.
        max_new_tokens: longest row, the end token included.
        no_repeat: no run of so many tokens comes twice in a row; 0 allows all.
        temperatures: one candidate a prompt for each; 0 takes the most probable token, above it tokens are drawn.
        top_p: share of the probability that tokens are drawn from.
    """

    end: int
    max_new_tokens: int = 64
    no_repeat: int = 3
    temperatures: tuple[float, ...] = (0.0,)
    top_p: float = 1.0


@dataclass(frozen=True)
class Written:
    """What a search wrote: the candidates of the first prompt, then of the second and so on.

    Attributes:
        ids: token ids of each row, without the end token.
        log_probability: (N,) of each row in nats, the end token included, before temperature, nucleus and rules.
        num_tokens: (N,) tokens of each row, the end token included.
    """

    ids: list[list[int]]
    log_probability: Tensor
    num_tokens: Tensor


@torch.no_grad()
def search(
    model: "PreTrainedModel", embedded: Tensor, mask: Tensor, tilt: Tilt, rules: Rules, generator: Generator
) -> Written:
    """Write behind each prompt; a prompt is read once for all its candidates, and rows that have ended are let go.

    A drawn row depends on the seed, on its place and on its prompt, not on the rows beside it.

    Args:
        model: causal language model of transformers.
        embedded: prompts (N, L, width), padded on the left.
        mask: (N, L) bool, True = no padding.
        tilt: changes the logits of rows, given the rows' prompts.
        rules: what may be written.
        generator: source of the seeds of drawn rows, one each, on the CPU.
    """
    copies, device = len(rules.temperatures), embedded.device
    reader, embedding = _Reader(model, mask), model.get_input_embeddings()
    row = torch.arange(len(mask), device=device).repeat_interleave(copies)  # prompt of each candidate
    logits = tilt(reader.read(embedded), row[::copies]).repeat_interleave(copies, 0)
    reader.repeat(copies)
    temperature = torch.tensor(rules.temperatures, device=device).repeat(len(mask))
    chance = _uniform(len(row), rules, generator).to(device) if any(rules.temperatures) else None
    pages, repeats = [_Page() for _ in row], [_Repeats(rules.no_repeat) for _ in row]
    live = torch.arange(len(row), device=device)  # candidates that are still read, in order
    for step in range(rules.max_new_tokens):
        log_probability = logits.log_softmax(-1)
        logits = _forbid(logits, rules, repeats, live, first=not step)
        tokens = logits.argmax(-1)
        if chance is not None:
            drawn = _draw(logits, temperature[live], rules.top_p, chance[live, step])
            tokens = torch.where(temperature[live] > 0, drawn, tokens)
        gained = log_probability.gather(1, tokens[:, None])[:, 0]
        for i, token, value in zip(live.tolist(), tokens.tolist(), gained.tolist(), strict=True):
            pages[i].add(token, value, rules.end)
            repeats[i].add(token)
        going = torch.tensor([not pages[i].ended for i in live.tolist()], device=device)
        if step + 1 == rules.max_new_tokens or not going.any():
            break
        if going.sum() <= len(live) * 7 // 8:  # letting a row go copies the cache of all others
            reader.keep(going.nonzero()[:, 0])
            live, tokens = live[going], tokens[going]
        logits = tilt(reader.read(embedding(tokens[:, None])), row[live])
    return Written(
        [page.ids for page in pages],
        torch.tensor([page.log_probability for page in pages]),
        torch.tensor([page.num_tokens for page in pages]),
    )


class _Page:
    """One row while it is written."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.log_probability, self.num_tokens, self.ended = 0.0, 0, False

    def add(self, token: int, log_probability: float, end: int) -> None:
        """Add a token, unless the row has ended."""
        if self.ended:
            return
        self.log_probability += log_probability
        self.num_tokens += 1
        self.ended = token == end
        if not self.ended:
            self.ids.append(token)


class _Repeats:
    """Which tokens would make a run of `size` tokens come twice in a row."""

    def __init__(self, size: int) -> None:
        self.size, self.ids = size, list[int]()
        self.behind: dict[tuple[int, ...], list[int]] = {}

    def add(self, token: int) -> None:
        """Add the next token."""
        if self.size:
            self.ids.append(token)
            if len(self.ids) >= self.size:
                self.behind.setdefault(tuple(self.ids[-self.size : -1]), []).append(token)

    def forbidden(self) -> list[int]:
        """Return the tokens that may not come next."""
        start = len(self.ids) - self.size + 1
        return self.behind.get(tuple(self.ids[start:]), []) if self.size and start >= 0 else []


class _Reader:
    """A language model that has read the rows so far.

    Args:
        model: causal language model of transformers.
        mask: (N, L) bool, True = a place of the prompts that is no padding.
    """

    def __init__(self, model: "PreTrainedModel", mask: Tensor) -> None:
        from transformers import DynamicCache

        head = model.get_output_embeddings()
        assert head is not None
        self.body, self.head, self.mask = model.base_model, head, mask.long()
        self.cache = DynamicCache(config=model.config)
        self.takes_positions = "position_ids" in inspect.signature(self.body.forward).parameters

    def read(self, embedded: Tensor) -> Tensor:
        """Read the next tokens (N, L, width) of all rows; return the logits (N, V) behind them, float32."""
        seen = self.cache.get_seq_length()
        if seen:
            self.mask = torch.nn.functional.pad(self.mask, (0, embedded.shape[1]), value=1)
        more: dict[str, Any] = {}
        if self.takes_positions:
            more["position_ids"] = (self.mask.cumsum(1) - 1).clamp_min(0)[:, seen:]
        found = self.body(
            inputs_embeds=embedded, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **more
        )
        # Of two dimensions, dense: on a strided view torch 2.13 would copy the head's weights once a row.
        return self.head(found.last_hidden_state[:, -1].contiguous()).float()

    def repeat(self, copies: int) -> None:
        """Put so many copies of each row in its place."""
        if copies > 1:
            self.cache.batch_repeat_interleave(copies)
            self.mask = self.mask.repeat_interleave(copies, 0)

    def keep(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]


def _uniform(num: int, rules: Rules, generator: Generator) -> Tensor:
    """Return a number in [0, 1) for each row and place (num, max_new_tokens), each row from a seed of its own."""
    seeds = torch.randint(2**62, (num,), generator=generator).tolist()
    return torch.stack([torch.rand(rules.max_new_tokens, generator=Generator().manual_seed(s)) for s in seeds])


def _forbid(logits: Tensor, rules: Rules, repeats: Sequence[_Repeats], live: Tensor, *, first: bool) -> Tensor:
    """Return the logits (N, V) with -inf where a token may not come."""
    pairs = [(place, token) for place, i in enumerate(live.tolist()) for token in repeats[i].forbidden()]
    if first:
        pairs += [(place, rules.end) for place in range(len(live))]  # no sentence is empty
    if pairs:
        rows, tokens = torch.tensor(pairs, device=logits.device).T
        logits = logits.index_put((rows, tokens), logits.new_tensor(-torch.inf))
    return logits


def _draw(logits: Tensor, temperature: Tensor, top_p: float, chance: Tensor) -> Tensor:
    """Return a token (N,) of each row, drawn from its nucleus.

    The nucleus is the smallest set of most probable tokens whose probability reaches top_p (arXiv:1904.09751).

    Args:
        logits: (N, V).
        temperature: (N,); what a row of 0 gives means nothing.
        top_p: share of the probability.
        chance: (N,) numbers in [0, 1) that decide.
    """
    probability = (logits / temperature.masked_fill(temperature == 0, 1.0)[:, None]).softmax(-1)
    if top_p == 1:
        return _pick(probability, chance)
    top, tokens = probability.topk(min(_NUCLEUS, probability.shape[1]), dim=-1)
    if (top.sum(-1) < top_p).any():
        top, tokens = probability.sort(dim=-1, descending=True, stable=True)
    before = top.cumsum(-1) - top
    place = _pick(top * (before < top_p), chance)
    return tokens.gather(1, place[:, None])[:, 0]


def _pick(weight: Tensor, chance: Tensor) -> Tensor:
    """Return a column (N,) of each row, as probable as its weight (N, W)."""
    total = weight.cumsum(-1)
    last = total[:, -1:]
    # Below the last sum, for chance * sum may be rounded up to it, and behind it there is nothing to pick.
    goal = torch.minimum(chance[:, None] * last, last.nextafter(torch.zeros_like(last)))
    return torch.searchsorted(total, goal, right=True)[:, 0]
