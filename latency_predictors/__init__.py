"""Latency predictors: what a network costs on a device."""
