"""Device, rank and number of processes: asked here, and nowhere else."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vcpipe.errors import InputError
from vcpipe.models.attention import use_fastest_kernels


@dataclass(frozen=True)
class Process:
    rank: int
    world: int
    device: torch.device
    local_world: int = 1  # processes on this node, which share its processors

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def joined(devices: int) -> Iterator[Process]:
    """Join the processes that torchrun started; devices is GPUs per node, 0 for the CPU."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if devices:
        visible = torch.cuda.device_count()
        if visible < devices:
            raise InputError(
                f"--devices is {devices} but {visible} GPUs are visible; expected at least "
                f"{devices}. Ask the scheduler for gpu: {devices}, or set --devices 0 for the CPU."
            )
        if local_world != devices:
            raise InputError(
                f"--devices is {devices} but {local_world} processes run on this node; start it "
                f"with torchrun --nproc-per-node={devices}."
            )
        torch.cuda.set_device(local_rank)
        use_fastest_kernels()
    device = torch.device("cuda", local_rank) if devices else torch.device("cpu")
    if world > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if devices else "gloo")
    try:
        yield Process(rank, world, device, local_world)
    finally:
        if world > 1:
            dist.destroy_process_group()


def shared(model: nn.Module, process: Process, strategy: str = "auto") -> nn.Module:
    """Wrap a model so that gradients are averaged over processes.

    Under fsdp the weights themselves are divided: every layer of a list is gathered when it is
    used, and all others when the model is called.
    """
    if process.world == 1:
        return model
    if strategy == "fsdp":
        # A second of imports, which other runs do without.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(process.device.type, (process.world,))
        for layers in [each for each in model.modules() if isinstance(each, nn.ModuleList)]:
            for layer in layers:
                fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    ids = [process.device.index] if process.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids)


def exchanging(parallel: nn.Module, wanted: bool) -> AbstractContextManager:
    """Whether a backward pass sends gradients to other processes, or keeps them to add to."""
    if hasattr(parallel, "set_requires_gradient_sync"):  # of fsdp
        parallel.set_requires_gradient_sync(wanted)
    elif isinstance(parallel, DistributedDataParallel) and not wanted:
        return parallel.no_sync()
    return nullcontext()


def is_divided(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be divided between processes, which all call this."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that may be divided."""
    return tensor.to_local() if is_divided(tensor) else tensor


def divided_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Of a whole tensor, the part that this process holds of another one of its shape."""
    if not is_divided(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = other.device_mesh, other.placements
    return distribute_tensor(tensor.to(other.device), mesh, placements, src_data_rank=None)


def begin_sum(values: Tensor, process: Process) -> Callable[[], object]:
    """Sum a tensor over all processes, in place; call what is returned before it is used."""
    if process.world == 1:
        return lambda: None
    return dist.all_reduce(values, async_op=True).wait


def total(values: list[float], process: Process) -> list[float]:
    """Sum numbers over all processes."""
    if process.world == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.tolist()


def gathering(process: Process) -> Callable[[Tensor], tuple[Tensor, int]]:
    """A function that joins the rows of all processes, and says where this one's begin.

    Gradients of all processes by a row come back to the one that it is from.
    """
    if process.world == 1:
        return lambda rows: (rows, 0)

    def gather(rows: Tensor) -> tuple[Tensor, int]:
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(process.world)]
        dist.all_gather(lengths, torch.tensor([len(rows)]))
        sizes = [int(length) for length in lengths]
        return _Joined.apply(rows, sizes, process.rank), sum(sizes[: process.rank])

    return gather


class _Joined(torch.autograd.Function):
    """Rows of all processes, which may differ in number."""

    @staticmethod
    def forward(ctx, rows: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.begin, ctx.end = sum(sizes[:rank]), sum(sizes[: rank + 1])
        # Processes exchange equally many rows: shorter parts are filled up.
        mine = rows.new_zeros(max(sizes), *rows.shape[1:])
        mine[: len(rows)] = rows
        parts = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(parts, mine)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.begin : ctx.end], None, None


def is_queued(process: Process) -> bool:
    """Whether a device works off what it is told while the processor goes on."""
    return process.device.type == "cuda"


def free_memory(process: Process) -> int:
    """Bytes of a GPU that nobody has taken; a CPU has none of its own."""
    return torch.cuda.mem_get_info(process.device)[0] if is_queued(process) else 0


def has_bfloat16(process: Process) -> bool:
    """Whether a GPU multiplies bfloat16; older ones would imitate it, slowly."""
    if process.device.type != "cuda":
        return False
    return torch.cuda.is_bf16_supported(including_emulation=False)


def seed_draws(seed: int, process: Process) -> None:
    """Seed what dropout draws from; torch.manual_seed also asks for devices that are not used.

    It does so at every call, which takes more time than a step of a small model.
    """
    torch.default_generator.manual_seed(seed)
    if process.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def empty_for(process: Process) -> Callable[..., np.ndarray]:
    """np.empty, in memory that a GPU copies from by itself while the processor goes on."""
    if process.device.type != "cuda":
        return np.empty

    def pinned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        kind = torch.from_numpy(np.empty(0, dtype=dtype)).dtype
        return torch.empty(shape, dtype=kind, pin_memory=True).numpy()

    return pinned


def to_device(batch: dict, process: Process) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(array).to(process.device, non_blocking=True)
        for name, array in batch.items()
    }
