"""Checks that need a GPU: make gpu-check prints a table, to be kept in results/gpu-<device>.md.

Attention kernels against float64; masked-value pretraining of scGPT's size through our loop, read
from a store on disk by the loader; and how fast the loader is by itself on that machine. Needs
torch, numba, pyarrow, pandas, scipy, xxhash and pydantic, and no anndata.
"""

# B cells, T tokens, H heads, K width of a head

import argparse
import os
import re
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.data.cell_store.memory_source import source_of, stored, vocabularies_of
from vcpipe.config.fitting import Fit
from vcpipe.config.loading import Loading
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Specials
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values
from vcpipe.training.distributed import Process, empty_for
from vcpipe.training.loop import Settings, train

NUM_CELLS, NUM_GENES, DETECTED = 8192, 18_000, 0.12
TOKENS, BATCH = 1536, 64
SIZE = Transformer(dropout=0.0)  # the whole-human scGPT's: 12 layers of 512
SPECIAL = Specials(0, 1, -1, 0, 0, -1)
EPOCHS = 3
DEVICE = torch.device("cuda", 0)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--parts", nargs="*", default=["attention", "loader", "training"])
    parts = made.parse_args().parts
    torch.backends.cuda.matmul.allow_tf32 = True
    properties = torch.cuda.get_device_properties(DEVICE)
    print(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {os.cpu_count()} cores")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, numpy {np.__version__}")
    peak = matmul_rate()
    print(
        f"bf16 8192 x 8192 x 8192: {peak / 1e12:.0f} TFLOP/s; copy: {copy_rate() / 1e12:.2f} TB/s"
    )
    if "attention" in parts:
        attention()
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store")
        if "loader" in parts:
            loader_alone(store)
        if "training" in parts:
            training(store, Path(folder), peak)


def milliseconds(work, repeats: int = 20) -> float:
    """The median by the device's own clock."""
    for _ in range(3):
        work()
    found = []
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(stop))
    return float(np.median(found))


def matmul_rate() -> float:
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / (milliseconds(lambda: a @ b) / 1e3)


def copy_rate() -> float:
    a = torch.empty(2**30, device=DEVICE, dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * a.numel() / (milliseconds(lambda: b.copy_(a)) / 1e3)


def attention() -> None:
    """Relative error against float64, forward and gradient, and time, for 8 heads of 64."""
    print("\n| attention, bf16, 16 x 1,536 | error | error of gradient | ms, both passes |")
    print("| --- | --- | --- | --- |")
    torch.manual_seed(0)
    shape = (16, SIZE.num_heads, TOKENS, SIZE.hidden_dim // SIZE.num_heads)
    q, k, v, g = (torch.randn(shape, device=DEVICE, dtype=torch.float64) for _ in range(4))

    def both(kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        its = [each.detach().to(kind).requires_grad_() for each in (q, k, v)]
        out = F.scaled_dot_product_attention(*its)
        out.backward(g.to(kind))
        return out.detach(), its[0].grad

    with sdpa_kernel(SDPBackend.MATH):
        exact = both(torch.float64)
    for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
        with sdpa_kernel(getattr(SDPBackend, backend)):
            found = both(torch.bfloat16)
            its = [
                float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)
            ]
            assert max(its) < 2e-2, (backend, its)
            ms = milliseconds(lambda: both(torch.bfloat16), 10)
        print(f"| {backend.lower()} | {its[0]:.1e} | {its[1]:.1e} | {ms:.2f} |")


def write_store(path: Path):
    generator = np.random.default_rng(0)
    mean_G = generator.lognormal(-2.9, 1.8, NUM_GENES)
    parts = [
        generator.poisson(mean_G * generator.lognormal(0, 0.2, (1024, 1))).astype(np.uint16)
        for _ in range(NUM_CELLS // 1024)
    ]
    counts = np.concatenate(parts)
    print(f"store: {NUM_CELLS:,} cells of {(counts > 0).sum(1).mean():.0f} detected genes")
    return stored(
        path, [source_of("one", {"rna": counts})], vocabularies_of(rna=NUM_GENES), threads=8
    )


def batches_of(store, empty) -> TokenBatches:
    config = Pretrain(
        corpus="c",
        masked_values=MaskedValues(mask_ratio=[0.4]),
        tokenizer={"strategy": "binned_expression", "max_genes": TOKENS},
    )
    hiding = hidden_values(config.masked_values.mask_ratio)
    return TokenBatches(SPECIAL, Fitted(Fit()), config, hiding, StoreReader(store), empty)


def loader_alone(store) -> None:
    """Binned, masked and padded batches of 64 x 1,536, in pinned memory."""
    print("\n| threads of the loader | cells/s | µs of a processor per cell |")
    print("| --- | --- | --- |")
    batches = batches_of(store, empty_for(Process(0, 1, DEVICE)))
    for threads in (1, 1, 2, 4, 8):
        loader = Loader(batches, Loading(), Share(0, 1, BATCH), 0, threads)
        list(loader.steps(0))
        wall, processor = time.perf_counter(), time.process_time()
        for epoch in range(1, 4):
            for _ in loader.steps(epoch):
                pass
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        cells = 3 * NUM_CELLS
        print(f"| {threads} | {cells / wall:,.0f} | {1e6 * processor / cells:.0f} |", flush=True)


def training(store, folder: Path, peak: float) -> None:
    """Masked values, bf16, 12 layers of 512; FLOPs of real tokens only, embeddings count 0."""
    d, d_ff, layers = SIZE.hidden_dim, SIZE.ffn_dim, SIZE.num_layers
    per_token = layers * (8 * d * d + 4 * d * d_ff + 4 * TOKENS * d)
    flops = 3 * TOKENS * per_token
    print(f"\n{flops / 1e9:.0f} GFLOP per cell, forward and backward")
    print("| model | memory of batches | threads | cells/s | waiting | share of bf16 peak | GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    process = Process(0, 1, DEVICE)
    for number, (compiled, pinned, threads) in enumerate(
        ((False, False, 2), (False, True, 2), (True, True, 1), (True, True, 2))
    ):
        torch.manual_seed(0)
        torch.cuda.reset_peak_memory_stats()
        model = MaskedValueModel(SIZE, NUM_GENES + 2, SPECIAL.pad_id)
        batches = batches_of(store, empty_for(process) if pinned else np.empty)
        state = folder / str(number)
        state.mkdir()
        said = []
        settings = Settings(
            Optimizer(name="adamw", lr=1e-4),
            Scheduler(name="constant"),
            Training(
                batch_size=BATCH,
                max_epochs=EPOCHS,
                precision="bf16-mixed",
                early_stopping=EarlyStopping(monitor="train_loss"),
                checkpoint_every_n_steps=100_000,
            ),
            Loading(),
        )
        loss = partial(masked_values, config=MaskedValues())
        train(
            torch.compile(model) if compiled else model,
            *(loss, batches, None, settings, process, state, said.append, threads),
        )
        rate, waiting = re.search(r"([\d,]+) cells/s, (\d+%)", said[-1]).groups()
        rate = float(rate.replace(",", ""))
        share = rate * flops / peak
        gib = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"| {'compiled' if compiled else 'eager'} | {'pinned' if pinned else 'pageable'} "
            f"| {threads} | {rate:,.0f} | {waiting} | {share:.0%} | {gib:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
