"""Checks that need a GPU: make gpu-check prints a table, to be kept in results/gpu-<device>.md.

Attention kernels, and ours on packed cells, against float64; masked-value pretraining of scGPT's
size through our loop, read from a store on disk by the loader, of cells that fill a batch and of
such that do not; EpiFoundation's size; and how fast the loader is by itself on that machine. Needs
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
from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Specials
from vcpipe.models.attention import Sequences, attend, padded_attention
from vcpipe.models.peaks_to_genes import PeaksToGenesModel, Vocabulary
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values
from vcpipe.objectives.peaks_to_genes import peaks_to_genes
from vcpipe.training.distributed import Process, empty_for
from vcpipe.training.loop import Settings, train

NUM_CELLS, NUM_GENES, DETECTED = 8192, 18_000, 0.12
TOKENS, BATCH = 1536, 64
SIZE = Transformer(dropout=0.0)  # the whole-human scGPT's: 12 layers of 512
SPECIAL = Specials(0, 1, -1, 0, 0, -1)
# Of genes that a deep cell has, so that the median cell fills two thirds of a batch.
SHALLOW = 0.35
EPOCHS, THREADS = 3, 2
DEVICE = torch.device("cuda", 0)
PARTS = ("attention", "packed", "loader", "training", "peaks")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "--parts", nargs="*", default=["attention", "packed", "loader", "training", "peaks"]
    )
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
    if "packed" in parts:
        packed()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if {"loader", "training"} & set(parts):
            store = write_store(folder / "store")
        if "loader" in parts:
            loader_alone(store)
        if "training" in parts:
            training(store, folder / "deep", peak)
            training(write_store(folder / "shallow_store", SHALLOW), folder / "shallow", peak)
    if "peaks" in parts:
        peaks(peak)


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


def packed() -> None:
    """Ours on cells without padding, beside padded attention with its mask; 8 heads of 64."""
    print("\n| attention, bf16, 32 cells | tokens | error | of the gradient | ms | ms, padded |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, median in (("cells that fill 1,536", 10_000), ("median 1,220 genes", 1220)):
        lengths = np.random.default_rng(0).lognormal(np.log(median), 0.5, 32)
        lengths = np.minimum(lengths, TOKENS).astype(np.int32)
        starts = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=DEVICE)
        sequences = Sequences(starts, int(lengths.max()))
        shape = (int(lengths.sum()), 3, SIZE.num_heads, SIZE.hidden_dim // SIZE.num_heads)
        torch.manual_seed(0)
        qkv, grad = torch.randn(shape, device=DEVICE), torch.randn(shape, device=DEVICE)[:, 0]

        def both(kernel, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
            its = qkv.to(kind).requires_grad_()  # noqa: B023
            out = kernel(its, sequences)  # noqa: B023
            out.backward(grad.to(kind))  # noqa: B023
            return out.detach(), its.grad

        exact = both(padded_attention, torch.float64)
        errors = [
            float((found.double() - true).norm() / true.norm())
            for found, true in zip(both(attend, torch.bfloat16), exact, strict=True)
        ]
        assert max(errors) < 2e-2, errors
        ours, padded = (
            milliseconds(partial(both, kernel, torch.bfloat16), 10)
            for kernel in (attend, padded_attention)
        )
        print(
            f"| {name} | {shape[0]:,} | {errors[0]:.1e} | {errors[1]:.1e} | {ours:.2f} "
            f"| {padded:.2f} |",
            flush=True,
        )


def write_store(path: Path, depth: float = 1.0):
    """Cells of which the deepest fill a batch; with a lower depth, as CELLxGENE's, few do."""
    generator = np.random.default_rng(0)
    mean_G = generator.lognormal(-2.9, 1.8, NUM_GENES)
    spread = 0.2 if depth == 1 else 0.6
    parts = [
        generator.poisson(depth * mean_G * generator.lognormal(0, spread, (1024, 1))).astype(
            np.uint16
        )
        for _ in range(NUM_CELLS // 1024)
    ]
    counts = np.concatenate(parts)
    detected = (counts > 0).sum(1)
    tokens = np.minimum(detected + 1, TOKENS).mean()
    print(f"\nstore: {NUM_CELLS:,} cells of {detected.mean():.0f} genes, {tokens:.0f} tokens")
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
    histogram = store.length_histogram("rna").astype(float)
    tokens = np.minimum(np.arange(len(histogram)) + 1, TOKENS)
    per_cell = layers * tokens * (8 * d * d + 4 * d * d_ff + 4 * tokens * d)
    flops = 3 * float((histogram * per_cell).sum() / histogram.sum())
    print(f"\n{flops / 1e9:.0f} GFLOP per cell, forward and backward")
    print("| model | threads | cells/s | waiting | share of bf16 peak | as told | GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    process = Process(0, 1, DEVICE)
    for compiled in (False, True):
        torch.manual_seed(0)
        torch.cuda.reset_peak_memory_stats()
        model = MaskedValueModel(SIZE, NUM_GENES + 2, SPECIAL.pad_id)
        state = folder / str(compiled)
        state.mkdir(parents=True)
        said = []
        settings = Settings(
            Optimizer(name="adamw", lr=1e-4),
            Scheduler(name="constant"),
            Training(
                batch_size=BATCH,
                max_epochs=EPOCHS,
                precision="bf16-mixed",
                compile=compiled,
                early_stopping=EarlyStopping(monitor="train_loss"),
                checkpoint_every_n_steps=100_000,
            ),
            Loading(),
        )
        loss = partial(masked_values, config=MaskedValues())
        batches = batches_of(store, empty_for(process))
        train(model, *(loss, batches, None, settings, process, state, said.append, THREADS))
        its = next(line for line in reversed(said) if "cells/s" in line)
        rate, waiting = re.search(r"([\d,]+) cells/s, (\d+%)", its).groups()
        told = re.search(r"MFU (\d+%)", its)
        rate = float(rate.replace(",", ""))
        gib = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"| {'compiled' if compiled else 'eager'} | {THREADS} | {rate:,.0f} | {waiting} "
            f"| {rate * flops / peak:.0%} | {told.group(1) if told else ''} | {gib:.1f} |",
            flush=True,
        )


def peaks(peak: float) -> None:
    """EpiFoundation's size: 8,000 open peaks of each cell, 8,000 genes asked for; no loader."""
    size = Transformer(num_layers=6, ffn_dim=1024, dropout=0.0)
    num_cells, num_peaks, num_genes = 8, 8000, 8000
    vocabulary = Vocabulary(
        *(150_000, 1, 20_000, 26, 2, 2),
        torch.arange(2, 2 + num_genes),
        torch.randint(2, 26, (num_genes,)),
    )
    config = PeaksToGenes()
    print("\n| 8 cells of 8,000 peaks, 6 layers of 512, bf16 | cells/s | share of peak | GiB |")
    print("| --- | --- | --- | --- |")
    d, d_ff = size.hidden_dim, size.ffn_dim
    flops = 3 * size.num_layers * num_peaks * (8 * d * d + 4 * d * d_ff + 4 * num_peaks * d)
    for compiled in (False, True):
        torch.manual_seed(0)
        torch.cuda.reset_peak_memory_stats()
        model = PeaksToGenesModel(size, config, vocabulary, 51, 0).to(DEVICE)
        if compiled:
            model.compile()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        shape = num_cells, num_peaks
        batch = {
            "peaks": torch.randint(2, 150_000, shape, device=DEVICE),
            "peak_chromosomes": torch.randint(2, 26, shape, device=DEVICE),
            "real": torch.ones(shape, dtype=torch.bool, device=DEVICE),
            "cell": torch.arange(num_cells, device=DEVICE).repeat_interleave(num_genes),
            "gene": torch.arange(num_genes, device=DEVICE).repeat(num_cells),
            "targets": torch.randint(0, 51, (num_cells * num_genes,), device=DEVICE),
            "batch": torch.zeros(num_cells, dtype=torch.int64, device=DEVICE),
        }

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)  # noqa: B023
            with torch.autocast("cuda", torch.bfloat16):
                loss, count = peaks_to_genes(model, batch, config, torch.Generator())  # noqa: B023
            (loss / count).backward()
            optimizer.step()  # noqa: B023

        rate = num_cells / (milliseconds(step, 10) / 1e3)
        gib = torch.cuda.max_memory_allocated() / 2**30
        name = "compiled" if compiled else "eager"
        print(f"| {name} | {rate:,.0f} | {rate * flops / peak:.0%} | {gib:.1f} |", flush=True)


if __name__ == "__main__":
    main()
