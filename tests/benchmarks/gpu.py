"""Checks that need a GPU: make gpu-check prints a table, to be kept in results/gpu-<device>.md.

Attention kernels, and ours on packed cells, against float64; masked-value pretraining of scGPT's
size through our loop, read from a store on disk by the loader, of cells that fill a batch and of
such that do not; EpiFoundation's size; and how fast the loader is by itself on that machine. Needs
torch, numba, pyarrow, pandas, scipy, xxhash and pydantic, and no anndata.

--device cpu --small goes through all of it in a minute, of sizes whose numbers mean nothing.
"""

# B cells, T tokens, H heads, K width of a head

import argparse
import dataclasses
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
from vcpipe.data.cell_store.reading import CellStore
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

SPECIAL = Specials(0, 1, -1, 0, 0, -1)
# Of genes that a deep cell has, so that the median cell fills two thirds of a batch.
SHALLOW = 0.35
THREADS = 2
# Kernels of attention, by the kind of a device.
KERNELS = {
    "cuda": ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"),
    "cpu": ("FLASH_ATTENTION", "MATH"),
}
PARTS = ("attention", "packed", "loader", "training", "peaks")


SCGPT = Transformer(dropout=0.0)  # whole-human: 12 layers of 512
EPIFOUNDATION = Transformer(num_layers=6, ffn_dim=1024, dropout=0.0)
TINY = Transformer(hidden_dim=32, num_layers=1, num_heads=2, ffn_dim=32, dropout=0.0)


@dataclasses.dataclass(frozen=True)
class Sizes:
    cells: int = 8192
    genes: int = 18_000
    tokens: int = 1536
    batch: int = 64
    model: Transformer = SCGPT
    epochs: int = 3
    attended: int = 16  # cells
    packed: int = 32  # cells
    loader_threads: tuple[int, ...] = (1, 1, 2, 4, 8)
    paired: int = 8  # cells
    open_peaks: int = 8000
    asked: int = 8000  # genes
    peaks_model: Transformer = EPIFOUNDATION
    square: int = 8192
    copied: int = 2**30  # bytes
    repeats: int = 10
    compiles: tuple[bool, ...] = (False, True)


SMALL = Sizes(
    **{"cells": 64, "genes": 300, "tokens": 24, "batch": 16, "model": TINY, "epochs": 2},
    **{"attended": 2, "packed": 4, "loader_threads": (1, 2)},
    **{"paired": 2, "open_peaks": 20, "asked": 10, "peaks_model": TINY},
    **{"square": 64, "copied": 2**16, "repeats": 1, "compiles": (False,)},
)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    made.add_argument("--device", default="cuda:0")
    made.add_argument("--small", action="store_const", const=SMALL, default=Sizes(), dest="sizes")
    args = made.parse_args()
    check, parts = Check(torch.device(args.device), args.sizes), args.parts
    torch.backends.cuda.matmul.allow_tf32 = True
    print(f"{check.name()}, {os.cpu_count()} cores")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, numpy {np.__version__}")
    peak, num = check.matmul_rate(), check.sizes.square
    copy = check.copy_rate() / 1e12
    print(f"bf16 {num} x {num} x {num}: {peak / 1e12:.0f} TFLOP/s; copy: {copy:.2f} TB/s")
    if "attention" in parts:
        check.attention()
    if "packed" in parts:
        check.packed()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if {"loader", "training"} & set(parts):
            store = write_store(folder / "store", check.sizes)
        if "loader" in parts:
            check.loader_alone(store)
        if "training" in parts:
            check.training(store, folder / "deep", peak)
            shallow = write_store(folder / "shallow_store", check.sizes, SHALLOW)
            check.training(shallow, folder / "shallow", peak)
    if "peaks" in parts:
        check.peaks(peak)


class Check:
    """All of it on one device, in one size."""

    def __init__(self, device: torch.device, sizes: Sizes):
        self.device, self.sizes = device, sizes
        self.process = Process(0, 1, device)

    def name(self) -> str:
        if self.device.type != "cuda":
            return "no GPU"
        properties = torch.cuda.get_device_properties(self.device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"

    def milliseconds(self, work, repeats: int | None = None) -> float:
        """The median; by the device's own clock, where it has one."""
        for _ in range(3):
            work()
        found = []
        for _ in range(repeats or self.sizes.repeats):
            if self.device.type == "cuda":
                start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                work()
                stop.record()
                torch.cuda.synchronize()
                found.append(start.elapsed_time(stop))
            else:
                began = time.perf_counter()
                work()
                found.append(1e3 * (time.perf_counter() - began))
        return float(np.median(found))

    def forget_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def memory(self) -> str:
        """Its peak, in GiB."""
        if self.device.type != "cuda":
            return ""
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"

    def matmul_rate(self) -> float:
        num = self.sizes.square
        a, b = (torch.randn(num, num, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * num**3 / (self.milliseconds(lambda: a @ b, 2 * self.sizes.repeats) / 1e3)

    def copy_rate(self) -> float:
        a = torch.zeros(self.sizes.copied, device=self.device, dtype=torch.uint8)
        b = torch.empty_like(a)
        ms = self.milliseconds(lambda: b.copy_(a), 2 * self.sizes.repeats)
        return 2 * a.numel() / (ms / 1e3)

    def attention(self) -> None:
        """Relative error against float64, forward and gradient, and time."""
        sizes, model = self.sizes, self.sizes.model
        title = f"attention, bf16, {sizes.attended} x {sizes.tokens:,}"
        print(f"\n| {title} | error | error of gradient | ms, both passes |")
        print("| --- | --- | --- | --- |")
        torch.manual_seed(0)
        shape = (
            *(sizes.attended, model.num_heads, sizes.tokens),
            model.hidden_dim // model.num_heads,
        )
        drawn = [torch.randn(shape, device=self.device, dtype=torch.float64) for _ in range(4)]
        *given, grad = drawn

        def both(kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
            its = [each.detach().to(kind).requires_grad_() for each in given]
            out = F.scaled_dot_product_attention(*its)
            out.backward(grad.to(kind))
            return out.detach(), its[0].grad

        with sdpa_kernel(SDPBackend.MATH):
            exact = both(torch.float64)
        for backend in KERNELS[self.device.type]:
            with sdpa_kernel(getattr(SDPBackend, backend)):
                its = errors(both(torch.bfloat16), exact)
                ms = self.milliseconds(lambda: both(torch.bfloat16))
            print(f"| {backend.lower()} | {its[0]:.1e} | {its[1]:.1e} | {ms:.2f} |")

    def packed(self) -> None:
        """Ours on cells without padding, beside padded attention with its mask."""
        sizes, model = self.sizes, self.sizes.model
        title = f"attention, bf16, {sizes.packed} cells"
        print(f"\n| {title} | tokens | error | of the gradient | ms | ms, padded |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, median in (
            (f"cells that fill {sizes.tokens:,}", 6.5 * sizes.tokens),
            (f"median {0.8 * sizes.tokens:,.0f} genes", 0.8 * sizes.tokens),
        ):
            lengths = np.random.default_rng(0).lognormal(np.log(median), 0.5, sizes.packed)
            lengths = np.minimum(lengths, sizes.tokens).astype(np.int32)
            starts = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=self.device)
            sequences = Sequences(starts, int(lengths.max()))
            shape = (int(lengths.sum()), 3, model.num_heads, model.hidden_dim // model.num_heads)
            torch.manual_seed(0)
            qkv, grad = (torch.randn(shape, device=self.device) for _ in range(2))

            def both(kernel, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
                its = qkv.to(kind).requires_grad_()  # noqa: B023
                out = kernel(its, sequences)  # noqa: B023
                out.backward(grad[:, 0].to(kind))  # noqa: B023
                return out.detach(), its.grad

            its = errors(both(attend, torch.bfloat16), both(padded_attention, torch.float64))
            ours, padded = (
                self.milliseconds(partial(both, kernel, torch.bfloat16))
                for kernel in (attend, padded_attention)
            )
            print(
                f"| {name} | {shape[0]:,} | {its[0]:.1e} | {its[1]:.1e} | {ours:.2f} "
                f"| {padded:.2f} |",
                flush=True,
            )

    def loader_alone(self, store: CellStore) -> None:
        """Binned, masked and padded batches, in pinned memory."""
        sizes = self.sizes
        print("\n| threads of the loader | cells/s | µs of a processor per cell |")
        print("| --- | --- | --- |")
        batches = batches_of(store, sizes, empty_for(self.process))
        for threads in sizes.loader_threads:
            loader = Loader(batches, Loading(), Share(0, 1, sizes.batch), 0, threads)
            list(loader.steps(0))
            wall, processor = time.perf_counter(), time.process_time()
            for epoch in range(1, 4):
                for _ in loader.steps(epoch):
                    pass
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            cells = 3 * sizes.cells
            print(
                f"| {threads} | {cells / wall:,.0f} | {1e6 * processor / cells:.0f} |", flush=True
            )

    def training(self, store: CellStore, folder: Path, peak: float) -> None:
        """Masked values, bf16; FLOPs of real tokens only, embeddings count 0."""
        sizes, model = self.sizes, self.sizes.model
        histogram = store.length_histogram("rna").astype(float)
        tokens = np.minimum(np.arange(len(histogram)) + 1, sizes.tokens)
        flops = 3 * float((histogram * flops_of(model, tokens)).sum() / histogram.sum())
        print(f"\n{flops / 1e9:.0f} GFLOP per cell, forward and backward")
        print("| model | threads | cells/s | waiting | share of bf16 peak | as told | GiB |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for compiled in sizes.compiles:
            torch.manual_seed(0)
            self.forget_memory()
            learner = MaskedValueModel(model, sizes.genes + 2, SPECIAL.pad_id)
            state = folder / str(compiled)
            state.mkdir(parents=True)
            said = []
            settings = Settings(
                Optimizer(name="adamw", lr=1e-4),
                Scheduler(name="constant"),
                Training(
                    batch_size=sizes.batch,
                    max_epochs=sizes.epochs,
                    precision="bf16-mixed",
                    compile=compiled,
                    early_stopping=EarlyStopping(monitor="train_loss"),
                    checkpoint_every_n_steps=100_000,
                ),
                Loading(),
            )
            loss = partial(masked_values, config=MaskedValues())
            batches = batches_of(store, sizes, empty_for(self.process))
            train(
                *(learner, loss, batches, None, settings, self.process, state, said.append, THREADS)
            )
            its = next(line for line in reversed(said) if "cells/s" in line)
            rate, waiting = re.search(r"([\d,]+) cells/s, (\d+%)", its).groups()
            told = re.search(r"MFU (\d+%)", its)
            rate = float(rate.replace(",", ""))
            print(
                f"| {'compiled' if compiled else 'eager'} | {THREADS} | {rate:,.0f} | {waiting} "
                f"| {rate * flops / peak:.0%} | {told.group(1) if told else ''} "
                f"| {self.memory()} |",
                flush=True,
            )

    def peaks(self, peak: float) -> None:
        """EpiFoundation's size, every cell with as many open peaks; no loader."""
        sizes, model = self.sizes, self.sizes.peaks_model
        vocabulary = Vocabulary(
            *(150_000, 1, 20_000, 26, 2, 2),
            torch.arange(2, 2 + sizes.asked),
            torch.randint(2, 26, (sizes.asked,)),
        )
        config, precision = PeaksToGenes(), torch.autocast(self.device.type, torch.bfloat16)
        title = (
            f"{sizes.paired} cells of {sizes.open_peaks:,} peaks, {model.num_layers} layers of "
            f"{model.hidden_dim}, bf16"
        )
        print(f"\n| {title} | cells/s | share of peak | GiB |")
        print("| --- | --- | --- | --- |")
        flops = 3 * flops_of(model, sizes.open_peaks)
        for compiled in sizes.compiles:
            torch.manual_seed(0)
            self.forget_memory()
            learner = PeaksToGenesModel(model, config, vocabulary, 51, 0).to(self.device)
            if compiled:
                learner.compile()
            optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-4, fused=True)
            batch = {name: its.to(self.device) for name, its in self.paired_batch().items()}

            def step() -> None:
                optimizer.zero_grad(set_to_none=True)  # noqa: B023
                with precision:
                    loss, count = peaks_to_genes(learner, batch, config, torch.Generator())  # noqa: B023
                (loss / count).backward()
                optimizer.step()  # noqa: B023

            rate = sizes.paired / (self.milliseconds(step) / 1e3)
            name = "compiled" if compiled else "eager"
            print(
                f"| {name} | {rate:,.0f} | {rate * flops / peak:.0%} | {self.memory()} |",
                flush=True,
            )

    def paired_batch(self) -> dict[str, torch.Tensor]:
        cells, peaks, asked = self.sizes.paired, self.sizes.open_peaks, self.sizes.asked
        return {
            "peaks": torch.randint(2, 150_000, (cells, peaks)),
            "peak_chromosomes": torch.randint(2, 26, (cells, peaks)),
            "places": torch.arange(cells * peaks),
            "starts": peaks * torch.arange(cells + 1, dtype=torch.int32),
            "cell": torch.arange(cells).repeat_interleave(asked),
            "gene": torch.arange(asked).repeat(cells),
            "targets": torch.randint(0, 51, (cells * asked,)),
            "batch": torch.zeros(cells, dtype=torch.int64),
        }


def errors(found: tuple[torch.Tensor, ...], exact: tuple[torch.Tensor, ...]) -> list[float]:
    """Of each, the norm of the difference over the norm."""
    its = [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    assert max(its) < 2e-2, its
    return its


def flops_of(model: Transformer, tokens):
    """Of a forward pass through its layers, of a cell of so many tokens."""
    d, d_ff = model.hidden_dim, model.ffn_dim
    return model.num_layers * tokens * (8 * d * d + 4 * d * d_ff + 4 * tokens * d)


def write_store(path: Path, sizes: Sizes, depth: float = 1.0) -> CellStore:
    """Cells of which the deepest fill a batch; with a lower depth, as CELLxGENE's, few do."""
    generator = np.random.default_rng(0)
    mean_G = generator.lognormal(-2.9, 1.8, sizes.genes)
    spread = 0.2 if depth == 1 else 0.6
    size = min(1024, sizes.cells)
    parts = [
        generator.poisson(depth * mean_G * generator.lognormal(0, spread, (size, 1))).astype(
            np.uint16
        )
        for _ in range(sizes.cells // size)
    ]
    counts = np.concatenate(parts)
    detected = (counts > 0).sum(1)
    tokens = np.minimum(detected + 1, sizes.tokens).mean()
    print(f"\nstore: {sizes.cells:,} cells of {detected.mean():.0f} genes, {tokens:.0f} tokens")
    return stored(
        path, [source_of("one", {"rna": counts})], vocabularies_of(rna=sizes.genes), threads=8
    )


def batches_of(store: CellStore, sizes: Sizes, empty) -> TokenBatches:
    config = Pretrain(
        corpus="c",
        masked_values=MaskedValues(mask_ratio=[0.4]),
        tokenizer={"strategy": "binned_expression", "max_genes": sizes.tokens},
    )
    hiding = hidden_values(config.masked_values.mask_ratio)
    return TokenBatches(SPECIAL, Fitted(Fit()), config, hiding, StoreReader(store), empty)


if __name__ == "__main__":
    main()
