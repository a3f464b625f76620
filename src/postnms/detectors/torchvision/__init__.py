"""Detectors of torchvision: adopted as models, or built by name."""
