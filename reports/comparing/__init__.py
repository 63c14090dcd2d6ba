"""Two audits of the same examples side by side: whether they compare, what changed, and how that is told."""
