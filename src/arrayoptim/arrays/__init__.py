"""What is known of each array library: its functions, its trees, its memory, its derivatives.

No other room names an array library. Knows nothing of optimizers: only arrays and containers.
"""
