"""Training a generator of perturbations from the command line: its victims, its measures, and the page of it."""
