"""Triton kernels of the suppressors, for CUDA tensors. NAME.py is the twin of ../NAME.py."""
