"""One look for everything that is told as a page."""
