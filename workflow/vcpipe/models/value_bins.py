"""Values -> bins at a cell's own quantiles, as data/binning.py does it, where the values are."""

# B cells, T values, E edges

import torch
from torch import Tensor


@torch.no_grad()
def quantile_bins(values_BT: Tensor, n_bins: int) -> Tensor:
    """Bins 1 to n_bins - 1 of values above zero, 0 of zeros; of several that a tie may get, the
    middle one. In the type of the values, of which there is at least one for each cell.
    """
    values_BT = values_BT.float().contiguous()
    is_zero_BT = values_BT == 0
    num_B1 = (~is_zero_BT).sum(1, keepdim=True)
    sorted_BT = values_BT.masked_fill(is_zero_BT, torch.inf).sort(1).values
    # As numpy's linspace rounds them: torch's own gives others, and so other bins here and there.
    levels_E = torch.arange(n_bins - 1, dtype=torch.float64, device=values_BT.device)
    levels_E *= 1 / (n_bins - 2)
    levels_E[-1:].fill_(1)
    place_BE = (num_B1 - 1).clamp(min=0) * levels_E
    below_BE = place_BE.floor().long()
    part_BE = place_BE - below_BE
    here_BE = sorted_BT.gather(1, below_BE)
    after_BE = sorted_BT.gather(1, torch.minimum(below_BE + 1, (num_B1 - 1).clamp(min=0)))
    step_BE = (after_BE - here_BE).double()
    # numpy's own rounding: from the nearer of the two values.
    edges_BE = torch.where(
        part_BE < 0.5, here_BE + step_BE * part_BE, after_BE - step_BE * (1 - part_BE)
    )
    values, edges = values_BT.double(), edges_BE.contiguous()
    fewest_BT = torch.searchsorted(edges, values)
    most_BT = torch.searchsorted(edges, values, right=True)
    return ((fewest_BT + most_BT + 1) // 2).masked_fill(is_zero_BT, 0).to(values_BT.dtype)
