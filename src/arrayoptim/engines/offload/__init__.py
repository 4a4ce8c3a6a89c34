"""State of GPU parameters in host memory, stepped by the CPU engine."""
