"""The stacked GRU is torch's GRU with the weights of each class."""

import torch
from torch import nn

from postnms.rescoring.recurrent import ClassGRU, tanh
from postnms.rescoring.sequences import sequences_of

CLASSES, WIDTH, HIDDEN = 4, 5, 3


def plain_gru(stacked, label):
    """Return torch's GRU with the weights that the stacked one has for a class."""
    gru = nn.GRU(WIDTH, HIDDEN, bidirectional=True)
    for direction, ending in enumerate(("", "_reverse")):
        gates = slice(3 * HIDDEN * direction, 3 * HIDDEN * (direction + 1))
        with torch.no_grad():
            getattr(gru, f"weight_ih_l0{ending}").copy_(stacked.input_weight[label][:, gates].T)
            getattr(gru, f"bias_ih_l0{ending}").copy_(stacked.input_bias[label][gates])
            getattr(gru, f"weight_hh_l0{ending}").copy_(stacked.hidden_weight[label, direction].T)
            getattr(gru, f"bias_hh_l0{ending}").copy_(stacked.hidden_bias[label, direction])
    return gru


def test_every_sequence_is_what_torch_makes_of_it_alone():
    generator = torch.Generator().manual_seed(0)
    labels, image = torch.randint(0, 3, (2, 70), generator=generator)
    labels[labels == 1] = 3  # Classes 1 and 2 lack somewhere.
    sequences = sequences_of(torch.rand(70, generator=generator), labels, image, 0.1, None)
    first, second = ClassGRU(CLASSES, WIDTH, HIDDEN), ClassGRU(CLASSES, WIDTH, HIDDEN)
    inputs = torch.randn(len(sequences), WIDTH, generator=generator)
    encoded = first(inputs, sequences)
    decoded = second(inputs, sequences, encoded)
    for label, start, length in zip(
        sequences.labels, sequences.starts, sequences.lengths, strict=True
    ):
        rows = slice(start, start + length)
        states, last = plain_gru(first, label)(inputs[rows])
        torch.testing.assert_close(encoded[rows], states, atol=1e-6, rtol=1e-5)
        states, _ = plain_gru(second, label)(inputs[rows], last)
        torch.testing.assert_close(decoded[rows], states, atol=1e-6, rtol=1e-5)


def test_tanh_by_way_of_the_sigmoid():
    values = torch.linspace(-20, 20, 1001)
    torch.testing.assert_close(tanh(values), values.tanh(), atol=3e-7, rtol=0)
