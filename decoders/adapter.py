"""From a concept to soft tokens that a language model reads."""

import torch
from torch import Generator, Tensor, nn

from decoders.words import WordGuesser


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
    """

    mean: Tensor
    scale: Tensor
    size: Tensor
    fitted: Tensor

    def __init__(
        self, dim: int, width: int, *, num_tokens: int, word_tokens: int, hidden_dim: int, num_words: int
    ) -> None:
        super().__init__()
        if not 0 <= word_tokens <= num_tokens:
            raise ValueError(f"word_tokens must lie between 0 and num_tokens = {num_tokens}, found {word_tokens}")
        self.num_tokens, self.word_tokens, self.width = num_tokens, word_tokens, width
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

    @torch.no_grad()
    def fit(self, concepts: Tensor, token_ids: list[list[int]], embedding: Tensor) -> None:
        """Fit centre, scale and word guesses on raw concepts (N, D) and the token ids of their sentences."""
        self.mean.copy_(concepts.mean(0))
        self.scale.copy_(concepts.std(0).clamp_min(0.1 * concepts.std()))  # MiniLM has two constant dimensions
        self.size.copy_(embedding.float().square().mean().sqrt())
        self.words.fit(self.normalize(concepts), token_ids)
        self.fitted.fill_(True)

    def normalize(self, concepts: Tensor) -> Tensor:
        """Return x (N, D), of unit variance, for raw concepts."""
        return (concepts.float() - self.mean) / self.scale

    def forward(self, x: Tensor, level: Tensor, embedding: Tensor) -> Tensor:
        """Return soft tokens (N, K, width).

        Args:
            x: normalised concepts (N, D), already noised.
            level: (N,) share of the variance that is noise, in [0, 1).
            embedding: token embeddings of the language model (V, width).
        """
        hidden = nn.functional.gelu(self.inner(x) + self.level(level[:, None]))
        tokens = self.outer(hidden).unflatten(1, (self.num_tokens, self.width)).float()
        if self.word_tokens:
            guessed = embedding[self.words.guess(x, self.word_tokens)].float() / self.size  # (N, words, width)
            tokens = tokens + nn.functional.pad(guessed, (0, 0, 0, self.num_tokens - self.word_tokens))
        return self.resize(tokens)

    def word_bias(self, x: Tensor) -> Tensor:
        """Return what x adds to the logits (N, W) of the tokens in `words.tokens`: log factor times a learnt gain."""
        return self.word_gain * self.words(x)

    def resize(self, tokens: Tensor) -> Tensor:
        """Return soft tokens with the RMS of token embeddings, times a learnt gain."""
        return nn.functional.rms_norm(tokens, (self.width,)) * self.size * self.gain


def add_noise(x: Tensor, level: Tensor, generator: Generator | None) -> Tensor:
    """Return sqrt(1 - level) x + sqrt(level) noise, of unit variance as x is; x (N, D), level (N,)."""
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (1 - level).sqrt()[:, None] * x + level.sqrt()[:, None] * noise
