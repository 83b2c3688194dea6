"""The cell store: what prepare_cells writes and training reads."""
