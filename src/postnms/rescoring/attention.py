"""Additive attention within sequences, and the gate that mixes it with what a box knows itself.

n: rows of all sequences, c: width of the states.
"""

import torch
from torch import Tensor, nn

from postnms.rescoring.recurrent import tanh
from postnms.rescoring.sequences import Sequences

MOST_NUMBERS = 1 << 21
"""Largest number of hidden numbers of the attention that are in memory together, unless one row of
a sequence needs more. The limit does not hold for training, which keeps them."""


class AdditiveAttention(nn.Module):
    """A mean of the encoder's states, weighted by a small network that compares two states.

    The weight of state e for state d is the softmax, over the sequence, of v tanh(W d + U e)
    (arXiv 1409.0473).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.asked = nn.Linear(width, hidden, bias=False)
        self.known = nn.Linear(width, hidden)
        self.weigh = nn.Linear(hidden, 1, bias=False)

    def forward(self, decoded: Tensor, encoded: Tensor, sequences: Sequences) -> Tensor:
        """Return (n, c): for each row of ``decoded`` a mean of the rows of ``encoded``."""
        # The hyperbolic tangent is 2 * sigmoid(2 * x) - 1, and torch computes the sigmoid ten times
        # as fast. A softmax does not see the constant term.
        asked, known = 2 * self.asked(decoded), 2 * self.known(encoded)
        width = known.shape[1]
        means, order = [], []
        for places, real in sequences.padded(MOST_NUMBERS // width):
            some = max(MOST_NUMBERS // (width * places.numel()), 1)
            asking, of_keys, states = (_gather(rows, places) for rows in (asked, known, encoded))
            parts = []
            for part in asking.split(some, dim=1):
                compared = 2 * self.weigh((part[:, :, None] + of_keys[:, None]).sigmoid()).squeeze(
                    -1
                )
                compared = compared.masked_fill(~real[:, None], -torch.inf)
                parts.append(compared.softmax(dim=-1) @ states)
            means.append(torch.cat(parts, dim=1)[real])
            order.append(places[real])
        return torch.cat(means)[torch.cat(order).argsort()]


def _gather(rows: Tensor, places: Tensor) -> Tensor:
    """Return the rows (n, c) at some places (G, L): (G, L, c)."""
    return rows.index_select(0, places.flatten()).view(*places.shape, -1)


class ContextGate(nn.Module):
    """What a box and its decoder know, plus as much of the attention as a gate lets through.

    The form is that of the source gate of arXiv 1608.06043: tanh(T [x, d] + z * S a) with
    z = sigmoid(Z [x, d, a]).
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width + 2 * states, states)
        self.target = nn.Linear(width + states, states)
        self.source = nn.Linear(states, states)

    def forward(self, inputs: Tensor, decoded: Tensor, context: Tensor) -> Tensor:
        """Return (n, c) from the description of the boxes (n, width) and two states (n, c)."""
        target = torch.cat([inputs, decoded], dim=1)
        gate = self.gate(torch.cat([target, context], dim=1)).sigmoid()
        return tanh(self.target(target) + gate * self.source(context))
