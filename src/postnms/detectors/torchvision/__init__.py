"""torchvision's own detectors, adopted or built by name."""
