"""What is learned: loss(model, batch, config, generator) -> (sum of losses, how many were summed).

Sums, not means: the loop divides by the count over all processes and accumulated batches, so that
neither changes what is learned. Each kind of training lists its own (training/pretraining.py,
training/finetuning.py), so that a new objective of one reruns no run of the other.
"""
