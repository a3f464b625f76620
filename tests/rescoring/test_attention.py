"""Attention and gate against plain loops over one box after another."""

import pytest
import torch

from postnms.rescoring import attention
from postnms.rescoring.attention import AdditiveAttention, ContextGate
from postnms.rescoring.sequences import sequences_of
from tests.support.oracles_of_rescoring import additive_attention, context_gate


@pytest.fixture
def drawn():
    """Sequences, and states of two networks for each of their rows."""
    generator = torch.Generator().manual_seed(0)
    labels, image = torch.randint(0, 3, (2, 30), generator=generator)
    sequences = sequences_of(torch.rand(30, generator=generator), labels, image, 0.1, None)
    return sequences, torch.randn(3, len(sequences), 4, generator=generator)


@pytest.mark.parametrize("most", [1, 30, 1 << 21])
def test_attention_is_that_of_each_sequence_alone(drawn, monkeypatch, most):
    """However little may be in memory together."""
    monkeypatch.setattr(attention, "MOST_NUMBERS", most)
    sequences, (decoded, encoded, _) = drawn
    module = AdditiveAttention(4, 3)
    context = module(decoded, encoded, sequences)
    weights = [module.asked.weight, module.known.weight, module.known.bias, module.weigh.weight[0]]
    for start, length in zip(sequences.starts, sequences.lengths, strict=True):
        rows = slice(start, start + length)
        wanted = additive_attention(
            decoded[rows].tolist(), encoded[rows].tolist(), *(w.tolist() for w in weights)
        )
        torch.testing.assert_close(context[rows], torch.tensor(wanted), atol=1e-5, rtol=1e-5)


def test_the_gate_lets_a_share_of_the_context_through(drawn):
    _, (inputs, decoded, context) = drawn
    module = ContextGate(4, 4)
    mixed = module(inputs, decoded, context)
    layers = [(m.weight.tolist(), m.bias.tolist()) for m in module.children()]
    wanted = [
        context_gate(x.tolist(), d.tolist(), a.tolist(), *layers)
        for x, d, a in zip(inputs, decoded, context, strict=True)
    ]
    torch.testing.assert_close(mixed, torch.tensor(wanted), atol=1e-5, rtol=1e-5)
