"""The page of an audit, a file for each question that it answers."""
