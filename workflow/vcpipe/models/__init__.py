"""Networks as diagrams: tensors in, tensors out; no files, no AnnData."""
