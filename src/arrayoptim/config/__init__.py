"""Settings of optimizers: hyperparameters, groups, presets, names and configurations.

Values are declared once; checks, constructors and configurations follow. Knows nothing of arrays.
"""
