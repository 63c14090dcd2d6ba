"""Training generators of token sequences from the command line: their data, their measures, and the page."""
