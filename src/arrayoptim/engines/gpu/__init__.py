"""Fused kernels over CuPy arrays and torch CUDA tensors, printed from the rules."""
