import torch

from decoders.words import WordGuesser


def test_a_linear_word_is_found_and_the_estimate_is_scikit_learns() -> None:
    from sklearn.linear_model import Ridge

    n, dim = 200, 6
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    ids = [[int(row[:3].argmax()) + 10, 99] for row in x]
    words = WordGuesser(dim, 5)
    words.fit(x, ids, ridge=2.0)
    assert (words.guess(x, 1)[:, 0] == torch.tensor([i[0] for i in ids])).float().mean() > 0.9
    present = torch.tensor([[float(token in row) for token in words.tokens[:4].tolist()] for row in ids])
    reference = Ridge(alpha=2.0).fit(x.numpy(), present.numpy()).predict(x.numpy())
    torch.testing.assert_close(words.probability(x)[:, :4], torch.from_numpy(reference), atol=1e-4, rtol=1e-4)


def test_rare_tokens_and_unused_places_are_never_guessed() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    words = WordGuesser(3, 8)
    words.fit(x, [[4, 5]] * 9 + [[6]], min_count=2)
    assert set(words.guess(x, 2).unique().tolist()) == {4, 5}
    assert words(x)[:, 2:].abs().sum() == 0
