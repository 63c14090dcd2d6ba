"""Training a generator from the command line: its data, its measures, and the page that tells of it."""
