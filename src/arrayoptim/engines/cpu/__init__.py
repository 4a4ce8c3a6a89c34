"""Fused loops over NumPy arrays and torch CPU tensors, compiled from the rules."""
