"""RoIAlign over a feature pyramid, plain and with the decoupling layer built in."""
