"""From a concept to soft tokens that a language model reads."""

from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from decoders.words import WordGuesser

Weight = TypeVar("Weight", nn.Linear, nn.Parameter)


class ConceptAdapter(nn.Module):
    """Turns raw concepts (N, D) into K soft tokens (N, K, width) of the size of token embeddings.

    The concept is centred and scaled to unit variance (x) and read twice: an MLP gives all K tokens, and to the first
    `word_tokens` of them the embeddings of the words are added that x makes most probable.

    Args:
        dim: width D of a concept.
        width: of the language model.
        num_tokens: K.
        word_tokens: how many of the K start from a guessed word.
        hidden_dim: width of the MLP.
        num_words: number of words that are guessed from.
        num_neighbours: number M of neighbouring concepts that are read, a soft token each.
        corrects: whether the concept of a hypothesis is read too.
    """

    mean: Tensor
    scale: Tensor
    size: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_tokens: int,
        word_tokens: int,
        hidden_dim: int,
        num_words: int,
        num_neighbours: int = 0,
        corrects: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= word_tokens <= num_tokens:
            raise ValueError(f"word_tokens must lie between 0 and num_tokens = {num_tokens}, found {word_tokens}")
        self.num_tokens, self.word_tokens, self.width = num_tokens, word_tokens, width
        self.num_neighbours = num_neighbours
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("size", torch.ones(()))  # RMS of the language model's token embeddings
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.words = WordGuesser(dim, num_words)
        self.inner = nn.Linear(dim, hidden_dim)
        self.level = nn.Linear(1, hidden_dim, bias=False)
        self.outer = nn.Linear(hidden_dim, num_tokens * width)
        self.missing = nn.Parameter(torch.randn(num_tokens, width))  # stands for a concept that is not given
        self.gain = nn.Parameter(torch.ones(num_tokens, 1))
        self.word_gain = nn.Parameter(torch.tensor(0.7))  # started at .5, it learnt .68 on grimm, .70 on shakespeare
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.outer.weight[: word_tokens * width])
        nn.init.zeros_(self.outer.bias)
        self.neighbours = NeighbourAdapter(dim, width, num_neighbours) if num_neighbours else None
        self.role = nn.Parameter(torch.zeros(num_tokens, width)) if corrects else None  # marks a hypothesis' tokens
        self.difference = nn.Linear(dim, hidden_dim, bias=False) if corrects else None
        if self.difference is not None:
            nn.init.zeros_(self.difference.weight)

    @torch.no_grad()
    def fit(self, concepts: Tensor, token_ids: list[list[int]], embedding: Tensor) -> None:
        """Fit centre, scale and word guesses on raw concepts (N, D) and the token ids of their sentences."""
        mean, scale = mean_and_scale(concepts)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.size.copy_(embedding.float().square().mean().sqrt())
        self.words.fit(self.normalize(concepts), token_ids)
        self.fitted.fill_(True)

    def normalize(self, concepts: Tensor) -> Tensor:
        """Return x (N, D), of unit variance, for raw concepts."""
        return (concepts.float() - self.mean) / self.scale

    def forward(self, x: Tensor, level: Tensor, embedding: Tensor, hypothesis: Tensor | None = None) -> Tensor:
        """Return soft tokens (N, K, width).

        Args:
            x: normalised concepts (N, D), already noised.
            level: (N,) share of the variance that is noise, in [0, 1).
            embedding: token embeddings of the language model (V, width).
            hypothesis: normalised concepts (N, D) of hypotheses; what x has that they lack is read too.
        """
        hidden = self.inner(x) + self.level(level[:, None])
        if hypothesis is not None:
            hidden = hidden + self._corrector(self.difference)(x - hypothesis)
        return self.resize(self._tokens(x, hidden, embedding))

    def read_hypothesis(self, hypothesis: Tensor, embedding: Tensor) -> Tensor:
        """Return soft tokens (N, K, width) of the normalised concepts (N, D) of hypotheses."""
        tokens = self._tokens(hypothesis, self.inner(hypothesis), embedding)
        return self.resize(tokens + self._corrector(self.role))

    def read_neighbours(self, neighbours: Tensor, near: Tensor) -> Tensor:
        """Return a soft token (N, M, width) for each normalised neighbour (N, M, D), where `near` (N, M) is True."""
        assert self.neighbours is not None
        return self.neighbours(neighbours, near) * self.size

    def _tokens(self, x: Tensor, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Return soft tokens (N, K, width) of any size: the MLP's, and the embeddings of guessed words."""
        tokens = self.outer(nn.functional.gelu(hidden)).unflatten(1, (self.num_tokens, self.width)).float()
        if self.word_tokens:
            guessed = embedding[self.words.guess(x, self.word_tokens)].float() / self.size  # (N, words, width)
            tokens = tokens + nn.functional.pad(guessed, (0, 0, 0, self.num_tokens - self.word_tokens))
        return tokens

    @staticmethod
    def _corrector(weight: Weight | None) -> Weight:
        if weight is None:
            raise ValueError("this decoder was not trained to correct a hypothesis; train one with corrects: true")
        return weight

    def word_bias(self, x: Tensor) -> Tensor:
        """Return what x adds to the logits (N, W) of the tokens in `words.tokens`: log factor times a learnt gain."""
        return self.word_gain * self.words(x)

    def resize(self, tokens: Tensor) -> Tensor:
        """Return soft tokens with the RMS of token embeddings, times a learnt gain."""
        return nn.functional.rms_norm(tokens, (self.width,)) * self.size * self.gain


class NeighbourAdapter(nn.Module):
    """Turns M neighbouring concepts (N, M, D) into a soft token each (N, M, width), of unit RMS times a learnt gain.

    Each place has its own linear map, zero at first: until it has learnt, a neighbour reads as one that is missing.

    Args:
        dim: width D of a concept.
        width: of the language model.
        num: number M of places.
    """

    def __init__(self, dim: int, width: int, num: int) -> None:
        super().__init__()
        self.missing = nn.Parameter(torch.randn(num, width))
        self.weight = nn.Parameter(torch.zeros(num, dim, width))
        self.gain = nn.Parameter(torch.ones(num, 1))

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        """Return tokens (N, M, width) for normalised concepts (N, M, D), not read where `near` (N, M) is False."""
        x = torch.where(near[..., None], x, 0.0)
        tokens = self.missing + torch.einsum("nmd,mdw->nmw", x, self.weight).float()
        return nn.functional.rms_norm(tokens, tokens.shape[-1:]) * self.gain


def mean_and_scale(concepts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation (D,) of raw concepts (N, D); MiniLM has two dimensions that are constant."""
    return concepts.mean(0), concepts.std(0).clamp_min(0.1 * concepts.std())


def add_noise(x: Tensor, level: Tensor, generator: Generator | None) -> Tensor:
    """Return sqrt(1 - level) x + sqrt(level) noise, of unit variance as x is; x (N, D), level (N,)."""
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (1 - level).sqrt()[:, None] * x + level.sqrt()[:, None] * noise
