"""What we know about each array library: its functions, trees, memory and derivatives.

No other package names array libraries. This one knows arrays and containers, not optimizers.
"""
