"""Our speed and memory beside the peers', who run for real on the same data: make bench."""
