"""Generators of perturbations and of samples, trained by a game."""
