"""What tests share: builders, oracles and runs.

Triton's interpreter stands in for a GPU. It is chosen here, before torchvision imports Triton.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
