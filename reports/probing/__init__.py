"""Probes of the decision boundary: measured, saved, and told on a page."""
