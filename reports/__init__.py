"""What is told to people: audits of classifiers, written down and shown."""
