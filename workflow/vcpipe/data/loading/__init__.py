"""From cells on disk to batches: in which order, by which process, and read by which back-end."""
