"""Training: one loop, used by the supernet and by distillation."""
