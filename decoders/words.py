"""Which words a concept's sentence probably holds, by ridge regression."""

import torch
from torch import Tensor, nn


class WordGuesser(nn.Module):
    """Ridge regression from normalised concepts x (N, D) to the presence of each frequent token.

    Sentence encoders keep which content words a sentence has much better than their order, and a linear map reads it
    off: fitted in a second on all training sentences, it gives the language model at its first step what an adapter
    would need many epochs to learn.

    Args:
        dim: width D of a concept.
        num_words: number W of tokens that are told apart, the most frequent ones of the corpus.
    """

    tokens: Tensor
    rate: Tensor
    weight: Tensor

    def __init__(self, dim: int, num_words: int = 4096) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.zeros(num_words, dtype=torch.int64))  # token ids
        self.register_buffer(
            "rate", torch.zeros(num_words)
        )  # share of sentences that hold the token; 0 = place not used
        self.register_buffer("weight", torch.zeros(dim, num_words))

    @torch.no_grad()
    def fit(self, x: Tensor, token_ids: list[list[int]], *, ridge: float = 100.0, min_count: int = 3) -> None:
        """Fit on sentences.

        Args:
            x: normalised concepts (N, D).
            token_ids: token ids of each of the N sentences.
            ridge: L2 penalty, in units of one sentence's squared deviation.
            min_count: sentences that must hold a token for it to count.
        """
        present = [sorted(set(ids)) for ids in token_ids]
        rows = torch.repeat_interleave(torch.tensor([len(ids) for ids in present]))
        flat = torch.tensor([token for ids in present for token in ids], dtype=torch.int64)
        tokens, column, count = flat.unique(return_inverse=True, return_counts=True)
        kept = count.argsort(descending=True, stable=True)[: len(self.tokens)]
        kept = kept[count[kept] >= min_count]
        place = torch.full((len(tokens),), -1).scatter(0, kept, torch.arange(len(kept)))[column]
        x = x.cpu()
        sums = torch.zeros(len(kept), x.shape[1]).index_add_(0, place[place >= 0], x[rows[place >= 0]])
        gram = x.T @ x + ridge * torch.eye(x.shape[1])
        self.rate.zero_()[: len(kept)] = count[kept] / len(x)
        self.tokens.zero_()[: len(kept)] = tokens[kept]
        self.weight.zero_()[:, : len(kept)] = torch.linalg.solve(gram, sums.T).to(self.weight.device)

    def probability(self, x: Tensor) -> Tensor:
        """Return how probable each token is in the sentence of x (N, W); a linear estimate, so it may leave [0, 1]."""
        return self.rate + x @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return by what log factor x makes each token more probable than usual (N, W), within [-1.5, 4]."""
        known = self.rate > 0
        ratio = self.probability(x).clamp_min(1e-6) / self.rate.clamp_min(1e-6)
        return ratio.log().clamp(-1.5, 4.0) * known

    def guess(self, x: Tensor, num: int) -> Tensor:
        """Return the ids (N, num) of the tokens that stand out most, best first.

        They are ranked by rise in probability over the standard deviation of their presence, so that neither rare nor
        common tokens win by themselves.
        """
        known = self.rate > 0
        rise = (self.probability(x) - self.rate) / self.rate.clamp_min(1e-9).sqrt()
        return self.tokens[rise.masked_fill(~known, -torch.inf).topk(num, dim=-1).indices]
