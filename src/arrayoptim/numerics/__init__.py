"""How numbers are stored and added: slots, 8-bit codes, stochastic rounding, sums in a fixed order.

Each is specified here by array expressions, which the fused engines reproduce bit by bit.
"""
