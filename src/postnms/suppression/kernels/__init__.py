"""Compiled kernels of the suppressors, for CPU tensors. NAME.py is the twin of ../NAME.py."""
