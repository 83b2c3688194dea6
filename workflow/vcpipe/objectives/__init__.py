"""What is learned: loss(model, batch, config, generator) -> (sum of losses, how many were summed).

Sums, not means: the loop divides by the count over all processes and accumulated batches, so that
neither changes what is learned.
"""

from vcpipe.objectives.masked_values import masked_values
from vcpipe.objectives.perturbation import perturbation

OBJECTIVES = {"masked_values": masked_values, "perturbation": perturbation}
