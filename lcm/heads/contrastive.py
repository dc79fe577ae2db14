"""InfoNCE: the true next concept against others of its document and of other rows."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lcm.heads.head import LastContextHead, last_visible, mean_over, start_as
from lcm.metrics import SAME


class ContrastiveHead(LastContextHead):
    """Tells the next concept from others by its cosine with a query, trained by InfoNCE (arXiv:1807.03748, Eq. 4).

    The query is one linear layer from the last visible context. The keys are normalised concepts themselves, so what is
    compared is the cosine after centring and scaling, not that of raw concepts, and the query lies in the space of x.
    The cosine is multiplied by a learnt scale with a cap, beyond which it has no gradient (arXiv:2103.00020, 2.5).

    Rivals of a target are the other targets of its row and up to `num_negatives` positions of other rows, drawn anew
    for each batch and only from this process. `num_banked` more come from a bank of training concepts; they cost a
    product each and no pass through the model, and teach to find a concept among all others. Left out are the
    neighbours in its document where they stand in its row, for they may be as good an answer, and sentences equal to
    it, which overlapping windows bring. Only a direction is learnt; about lengths the loss says nothing.

    Args:
        dim: width D of a concept.
        width: width H of a context.
        window: neighbours up to this distance are no rivals; 0 makes all of them rivals.
        num_negatives: most positions of other rows that a target is compared with.
        num_banked: training concepts that a target is compared with as well, drawn anew for each batch.
        bank_size: training concepts to draw from; they are measured before the first step and kept in the checkpoint.
        scale: factor of the cosine at the start.
        max_scale: its cap.
    """

    bank: Tensor

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        window: int = 1,
        num_negatives: int = 1024,
        num_banked: int = 0,
        bank_size: int = 16_384,
        scale: float = 1 / 0.07,
        max_scale: float = 100.0,
    ) -> None:
        super().__init__()
        if window < 0 or num_negatives < 0:
            raise ValueError(f"window and num_negatives must be at least 0, found {window} and {num_negatives}")
        if not 0 <= num_banked <= bank_size:
            raise ValueError(f"need 0 <= num_banked <= bank_size, found {num_banked} and {bank_size}")
        if not 0 < scale <= max_scale:
            raise ValueError(f"need 0 < scale <= max_scale, found {scale} and {max_scale}")
        self.dim, self.window, self.num_negatives, self.max_scale = dim, window, num_negatives, max_scale
        self.query = nn.Linear(width, dim)
        self.log_scale = nn.Parameter(torch.tensor([math.log(scale)]))  # FSDP shards no number without a dimension
        self.num_banked = num_banked
        self.register_buffer("bank", torch.zeros(bank_size if num_banked else 0, dim, dtype=torch.float16))

    def fit(self, x: Tensor) -> None:
        """Fill the bank with some of normalised x (N, D), over and over if there are too few."""
        if self.num_banked:
            drawn = torch.randperm(len(x), generator=Generator().manual_seed(0)).to(x.device)
            some = x[drawn[torch.arange(len(self.bank), device=x.device) % len(x)]]
            self.bank.copy_(F.normalize(some.float(), dim=-1))

    def align(self, weight: Tensor) -> None:
        """Start with what was read as the query, from the input layer's weight (H, D)."""
        start_as(self.query, weight.T)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the true concept among its rivals, in nats.

        Beside it the accuracy: the share of rivals in its own document that the true concept beats, chance 0.5. It is
        what the evaluation calls contrastive accuracy, by cosine instead of distance.
        """
        asked = target & visible.any(-1)
        document = visible | visible.mT  # (B, S, S): whether two positions are of one document
        query = self.find(context, visible)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 cannot tell equal from alike
            key = F.normalize(x.float(), dim=-1)
            rival = (key @ key.mT < SAME) & target[:, None] & ~self.near(document)
            other, other_rival = self.draw_others(key, target, generator)
            score, other_score = self.scale() * query @ key.mT, self.scale() * query @ other.mT  # (B, S, S), (B, S, M)
        true = score.diagonal(dim1=1, dim2=2)[..., None]  # (B, S, 1)
        wrong = torch.cat(
            (score.masked_fill(~rival, -torch.inf), other_score.masked_fill(~other_rival, -torch.inf)), -1
        )
        loss = torch.cat((true, wrong), dim=-1).logsumexp(-1) - true[..., 0]
        rival = rival & document
        beaten = (rival & (score < true)).sum(-1) / rival.sum(-1).clamp_min(1)
        return {"loss": mean_over(loss, asked), "accuracy": mean_over(beaten, asked & rival.any(-1))}

    def near(self, document: Tensor) -> Tensor:
        """Return which positions are neighbours or the same: bool (B, S, S), from which are of one document."""
        position = torch.arange(document.shape[-1], device=document.device)
        distance = (position[:, None] - position).abs()
        return (distance == 0) | ((distance <= self.window) & document)

    def draw_others(self, key: Tensor, target: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Return keys (M, D) drawn from batch and bank, and which of them are rivals of a position: bool (B, S, M).

        Positions of the row itself and those that are no target are drawn too and are no rivals, so that M depends on
        the shapes alone.
        """
        num_rows, num_positions = target.shape
        drawn = torch.randperm(target.numel(), generator=generator, device=key.device)[: self.num_negatives]
        other, row = key.flatten(0, 1)[drawn], torch.arange(num_rows, device=key.device)[:, None]
        rival = target.flatten()[drawn] & (drawn // num_positions != row)  # (B, M)
        if self.num_banked:
            places = torch.randint(len(self.bank), (self.num_banked,), generator=generator, device=key.device)
            other = torch.cat((other, F.normalize(self.bank[places].float(), dim=-1)))  # float16 is not exact
            rival = F.pad(rival, (0, self.num_banked), value=True)
        return other, rival[:, None] & (key @ other.mT < SAME)

    def scale(self) -> Tensor:
        """Return the factor of the cosine."""
        return self.log_scale[0].exp().clamp_max(self.max_scale)

    def find(self, memory: Tensor, visible: Tensor) -> Tensor:
        """Return the query (B, Q, D), of length 1, float32, of the last context that visible (B, Q, S) shows."""
        return F.normalize(self.query(last_visible(memory, visible)).float(), dim=-1)

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the query (B, Q, D) times sqrt(D), which is as far out as concepts are."""
        return self.find(context, visible) * math.sqrt(self.dim)

    def sample(
        self,
        memory: Tensor,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        bank: Tensor | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        reach: float = 1.0,
    ) -> Tensor:
        """Return one next x (B, Q, D) for each query: of the bank, or without one the point that the query shows.

        That point lies in the direction of the query at the distance reach * sqrt(D) from the centre; sqrt(D) is the
        mean distance of concepts whose dimensions are scaled to variance 1. The farther out, the more the distance to
        it ranks concepts of equal length as the learnt cosine does.

        Args:
            memory: what remember() returned.
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the draw from the bank.
            bank: normalised concepts (N, D) to answer from.
            temperature: 1 draws from the softmax over the nearest of the bank, as learnt, 0 takes the nearest; above 0
                it needs a bank, for without one there is nothing to draw from.
            top_k: how many of the nearest of the bank may be drawn, 10 if not given.
            reach: how far out the point lies without a bank; at 1 among the concepts, where a decoder can read it. 3
                ranks a little better (experiments/2026-11-bake-off), and is no concept.
        """
        query = self.find(memory, visible)
        if bank is None:
            if temperature:
                raise ValueError(
                    f"a temperature of {temperature} needs a bank to draw from; give one, or temperature 0"
                )
            if top_k is not None:
                raise ValueError(f"a top_k of {top_k} needs a bank to draw from; give one, or no top_k")
            return query * reach * math.sqrt(self.dim)
        return self.answer(query, bank, temperature, 10 if top_k is None else top_k, generator)

    def answer(
        self, query: Tensor, bank: Tensor, temperature: float, top_k: int, generator: Generator | None
    ) -> Tensor:
        """Return a concept of the bank (N, D) for each query (B, Q, D), as sample() says."""
        if temperature < 0 or top_k < 1 or not len(bank):
            raise ValueError(
                f"need temperature >= 0, top_k >= 1 and a bank, found {temperature}, {top_k} and {len(bank)} concepts"
            )
        with torch.autocast(bank.device.type, enabled=False):  # bfloat16 gives many concepts the same score
            score = query @ F.normalize(bank.float(), dim=-1).mT  # (B, Q, N)
        if temperature == 0:
            return bank[score.argmax(-1)].float()
        score, nearest = score.topk(min(top_k, len(bank)))  # (B, Q, K)
        chance = (self.scale() * score / temperature).softmax(-1)
        drawn = torch.multinomial(chance.flatten(0, 1), 1, generator=generator).view(*score.shape[:2], 1)
        return bank[nearest.gather(-1, drawn)[..., 0]].float()
