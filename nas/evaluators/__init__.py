"""What a search asks about an architecture: its accuracy (expensive) and its costs (cheap)."""
