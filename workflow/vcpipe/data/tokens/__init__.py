"""Rows of the store -> tokens that a model reads."""
