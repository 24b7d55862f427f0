"""The front for people: an interactive page and a static picture."""
