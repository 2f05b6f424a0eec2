"""The sampler against the definition of each limit, and against the distribution that it should draw from."""

import torch

from ch02_continuous_batching import sample, sample_greedy


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature=1.0, top_k=0, top_p=1.0) -> torch.Tensor:
    rows = logits.shape[0]
    return sample(
        logits, torch.full((rows,), temperature), torch.full((rows,), top_k), torch.full((rows,), top_p), uniform
    )


def test_frequencies_match_the_softmax():
    """Evenly spread uniform numbers draw each token as often as its probability says."""
    logits = torch.randn(7) * 2
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    drawn = draw(logits.expand(20_000, 7), uniform, temperature=0.7)
    frequency = torch.bincount(drawn, minlength=7) / 20_000
    torch.testing.assert_close(frequency, (logits / 0.7).softmax(-1), atol=2e-4, rtol=0)


def test_top_k_keeps_the_k_most_likely():
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0]).expand(1000, 4)
    drawn = draw(logits, torch.arange(1000) / 1000, top_k=2)
    assert set(drawn.tolist()) == {1, 3}


def test_top_p_keeps_the_token_that_crosses_the_limit():
    """0.5 + 0.3 >= 0.6 > 0.5: the two most likely stay; with a limit below the first, the first alone."""
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(1000, 3)
    uniform = torch.arange(1000) / 1000
    assert set(draw(logits, uniform, top_p=0.6).tolist()) == {1, 2}
    assert set(draw(logits, uniform, top_p=1e-6).tolist()) == {1}


def test_temperature_zero_is_greedy_in_a_mixed_batch():
    logits = torch.randn(64, 50)
    temperature = torch.where(torch.arange(64) % 2 == 0, 0.0, 5.0)
    drawn = sample(logits, temperature, torch.zeros(64, dtype=torch.int64), torch.ones(64), torch.rand(64))
    assert drawn[::2].equal(sample_greedy(logits)[::2])
    assert not drawn[1::2].equal(sample_greedy(logits)[1::2])


def test_the_largest_uniform_number_stays_inside_the_limits():
    logits = torch.randn(100, 1000)
    almost_one = torch.full((100,), 1 - 2**-24)
    drawn = draw(logits, almost_one, top_k=5, top_p=0.9)
    ranks = (logits > logits.gather(1, drawn[:, None])).sum(dim=1)
    assert int(ranks.max()) < 5, f"tokens outside the five most likely were drawn, ranks {ranks.tolist()}"
