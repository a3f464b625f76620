"""Values that no operation takes for a tensor of floats, or of integers."""

import warnings

import numpy as np
import torch


def never_dense():
    """Values that are no dense tensor, by name. Each is made of one matrix (2, 4)."""
    matrix = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]])
    with warnings.catch_warnings():
        # Several of these kinds warn that torch does not promise to keep them.
        warnings.simplefilter("ignore")
        return {
            "list": matrix.tolist(),
            "tuple": tuple(matrix.tolist()),
            "array": matrix.numpy(),
            "number": 0.5,
            "numpy number": np.float32(0.5),
            "text": "boxes",
            "bytes": b"boxes",
            "bool": True,
            "dict": {"boxes": matrix},
            "class": torch.Tensor,
            "function": torch.zeros,
            "coo": matrix.to_sparse(),
            "csr": matrix.to_sparse_csr(),
            "csc": matrix.to_sparse_csc(),
            "bsr": matrix.to_sparse_bsr((1, 1)),
            "nested": torch.nested.nested_tensor([matrix, matrix[:1]]),
            "jagged": torch.nested.nested_tensor([matrix, matrix[:1]], layout=torch.jagged),
            "masked": torch.masked.masked_tensor(matrix, matrix > 0),
            "quantized": torch.quantize_per_tensor(matrix, 0.1, 0, torch.quint8),
            "meta": torch.empty(2, 4, device="meta"),
        }


NOT_FLOATING = (
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.uint64,
)
NOT_INTEGER = (
    torch.float8_e4m3fn,
    torch.complex64,
    torch.bool,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint64,
)
