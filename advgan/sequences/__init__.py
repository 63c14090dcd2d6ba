"""Generators of token sequences, trained by likelihood or by a game, and measured against an oracle that is known."""
