"""What can be wrong with a model or its data, one short question each, before any attack is run."""
