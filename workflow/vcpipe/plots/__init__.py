"""The figures of the report, made from evaluation's tables."""
