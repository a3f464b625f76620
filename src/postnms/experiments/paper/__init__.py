"""The tables and the figure of the paper as experiments, and what the paper prints there."""
