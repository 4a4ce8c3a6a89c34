"""The demonstration: train on real data, stop half-way, go on elsewhere, compare."""
