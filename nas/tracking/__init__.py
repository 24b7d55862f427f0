"""Experiment trackers that follow a search, each an extra of the installation."""
