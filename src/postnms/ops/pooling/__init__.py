"""RoIAlign over a feature pyramid."""
