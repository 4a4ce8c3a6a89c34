"""How numbers are stored and added: slots, 8-bit codes, stochastic rounding, sums in a fixed order.

Array expressions specify each of these here; the fused engines reproduce them bit for bit.
"""
