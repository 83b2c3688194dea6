"""What makes the host wait for a device, as a GPU would have it do, counted on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name == "index" else ()
        by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
        if name.startswith(self.WAITING) or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))
