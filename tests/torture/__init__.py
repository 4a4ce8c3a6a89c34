"""Torture: kills, interrupts, damaged files and foolish configurations, by the thousand.

``nox -s torture`` runs it; it is no part of the tests. Each kind runs in batches, in processes with
limits, so that what hangs or crashes is counted and the rest goes on.
"""
