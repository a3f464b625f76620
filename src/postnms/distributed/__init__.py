"""Training in several processes: starting them, and agreeing on numbers."""
