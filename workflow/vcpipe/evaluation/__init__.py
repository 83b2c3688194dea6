"""Metrics, baselines and the summary. No torch here."""
