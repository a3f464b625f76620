"""A GRU in both directions with weights of its own for every class, on many sequences at once.

A loop over the classes with ``torch.nn.GRU`` takes a step of Python for each box of each class.
Here all classes, both directions and all images take a step together, by a product of stacked
matrices.

n: rows of all sequences, H: width of the state, K: classes.
"""

import torch
from torch import Tensor, nn

from postnms.rescoring.sequences import Sequences


class ClassGRU(nn.Module):
    """A bidirectional GRU for each class.

    The equations and the order of the gates (reset, update, new) are those of ``torch.nn.GRU``.

    Args:
        num_classes: number of classes.
        width: width of the input.
        hidden: H.
    """

    def __init__(self, num_classes: int, width: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5

        def start(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(num_classes, *shape).uniform_(-bound, bound))

        self.input_weight = start(width, 6 * hidden)
        self.input_bias = start(6 * hidden)
        self.hidden_weight = start(2, hidden, 3 * hidden)
        self.hidden_bias = start(2, 3 * hidden)

    def forward(self, inputs: Tensor, sequences: Sequences, before: Tensor | None = None) -> Tensor:
        """Return the states of both directions after each row: (n, 2 * H).

        Args:
            inputs: (n, width).
            sequences: n rows, at least one.
            before: (n, 2 * H), the states of another such layer on the same sequences. Each
                direction starts from the state in which that layer ended. None: from 0.
        """
        walk = sequences.walk
        width = self.hidden_weight.shape[2]  # H
        weight = self.hidden_weight[walk.classes].flatten(0, 1)  # (2 * K, H, 3 * H)
        bias = self.hidden_bias[walk.classes].flatten(0, 1)[:, None]
        gates = self._input_gates(inputs, sequences)
        state = self._start(before, sequences, width)
        entries = torch.cat([entries for _, _, entries in walk.steps])
        given = gates.index_select(0, entries).split([len(step[2]) for step in walk.steps])
        outputs = []
        for (classes, columns, _), gates_of_step in zip(walk.steps, given, strict=True):
            # In training, each slice of a weight would take a gradient of the size of the whole.
            if 2 * classes < len(weight):
                weight, bias = weight[: 2 * classes], bias[: 2 * classes]
            if state.shape[:2] != (2 * classes, columns):
                state = state[: 2 * classes, :columns]
            own, own_new = torch.baddbmm(bias, state, weight).split((2 * width, width), dim=-1)
            added = gates_of_step.view(2 * classes, columns, 3 * width)
            added, added_new = added.split((2 * width, width), dim=-1)
            reset, update = (added + own).sigmoid().chunk(2, dim=-1)
            new = tanh(torch.addcmul(added_new, reset, own_new))
            state = torch.lerp(new, state, update)
            outputs.append(state.reshape(-1, width))
        states = torch.cat(outputs).index_select(0, walk.places.flatten())
        return states.view(len(inputs), 2 * width)

    def _input_gates(self, inputs: Tensor, sequences: Sequences) -> Tensor:
        """Return what the inputs add to the gates: (2 * n, 3 * H), entry 2 * i + j as in a walk."""
        parts = [
            torch.addmm(self.input_bias[label], inputs[begin:end], self.input_weight[label])
            for label, begin, end in sequences.segments
        ]
        return torch.cat(parts).view(2 * len(inputs), -1)

    def _start(self, before: Tensor | None, sequences: Sequences, width: int) -> Tensor:
        """Return the first state of each line and column: (2 * K, columns, H)."""
        walk = sequences.walk
        if before is None:
            return self.hidden_bias.new_zeros(2 * len(walk.classes), walk.firsts.shape[1], width)
        # The other direction ends at the first row.
        ends = [before[walk.lasts, :width], before[walk.firsts, width:]]
        return torch.stack(ends, dim=1).flatten(0, 1)


def tanh(values: Tensor) -> Tensor:
    """Return the hyperbolic tangent by way of the sigmoid, which torch computes ten times as fast.

    The absolute error is that of float32 at 1, also near 0.
    """
    return 2 * (2 * values).sigmoid() - 1
