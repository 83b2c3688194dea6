"""A perturbation screen with known truth: counts that follow from a sparse regulatory network.

Genes belong to programs. In every cell a program's activity moves its genes up and down together,
so that unperturbed cells show which genes are near. Regulators of one program share most of their
downstream genes, so that near targets have near effects.
"""

# C cells of a block, G genes, T targets, P programs, B batches

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.datasets import Simulation
from vcpipe.config.reading import PROJECT, settings
from vcpipe.data.hdf5 import writing_hdf5
from vcpipe.files import existing, writing

# Current HGNC symbols, written down for this project: ten families of 150 genes (translation,
# mitochondria, cell cycle, ...), then what remained of them. All are in scGPT's vocabulary.
SYMBOLS = PROJECT / "resources" / "gene_symbols.txt"

CONTROL_LABEL = "non-targeting"  # VCC's

# One generator draws this many rows, so the counts do not depend on how many are written at once.
BLOCK = 256
PLAN, BLOCKS = 0, 1  # what the seed is spawned for

EXPRESSION_SD = 1.2  # of the genes' log mean counts; their mean then spans about 1 : 100
LIBRARY_SD = 0.35  # of the cells' log library size, as in a 10x lane after quality control
GUIDE_SD = 0.15  # of a guide's log efficiency: 0.8 becomes 0.7 to 0.88
WEIGHT_SD = 0.3  # of the log |weight| of an edge
SHARED = 0.8  # chance that a regulator has an edge of its program
PASSED_ON = 0.5  # share of its own change that a regulator passes on to the next step
LARGEST = 3.0  # log2 change that sums of effects approach; few knock-downs move a gene 8-fold


@dataclass(frozen=True)
class Network:
    """Who regulates whom; weights are log2 changes of a gene per log2 change of its regulator."""

    genes: np.ndarray  # str
    program_G: np.ndarray
    targets_T: np.ndarray  # columns of the perturbed genes
    has_effect_T: np.ndarray
    weights_GG: sp.csr_matrix  # regulators in rows


@dataclass(frozen=True)
class Plan:
    """All that is decided before a cell is counted; no array has cells × genes."""

    config: Simulation
    network: Network
    response_TG: np.ndarray  # log2 change of every gene per log2 change of the target
    obs: pd.DataFrame
    target_C: np.ndarray  # of all cells; T for a control
    target_change_C: np.ndarray  # log2 change of the target that the cell's guide makes
    batch_C: np.ndarray
    truth: ad.AnnData
    log_mean_G: np.ndarray
    loading_G: np.ndarray  # how far a gene follows its program
    log_batch_BG: np.ndarray


def plan_screen(config: Simulation) -> Plan:
    """Draw genes, network, guides and cell labels; the settings' seed decides all of it."""
    generator = _generator(config.seed, PLAN)
    log_mean_G = _centred(generator.normal(0, EXPRESSION_SD, config.num_genes), config.depth)
    network = draw_network(config, log_mean_G, generator)
    response_TG = responses(config, network)
    guides = draw_guides(config, network, generator)
    obs, guide_C = draw_cells(config, guides, generator)
    guide_target = guides["target"].to_numpy()
    batch_C = obs["batch"].cat.codes.to_numpy()
    shape = (config.num_batches, config.num_genes)
    return Plan(
        config=config,
        network=network,
        response_TG=response_TG,
        obs=obs,
        target_C=guide_target[guide_C],
        target_change_C=guides["target_change"].to_numpy()[guide_C],
        batch_C=batch_C,
        truth=true_changes(config, network, response_TG, guides),
        log_mean_G=log_mean_G,
        loading_G=generator.uniform(0.5, 1.0, config.num_genes),
        log_batch_BG=_log_factors(generator, config.batch_strength, shape),
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _centred(log_mean_G: np.ndarray, depth: float) -> np.ndarray:
    """Shift so that the means sum up to the depth."""
    return log_mean_G - np.log(np.exp(log_mean_G).sum()) + np.log(depth)


def _log_factors(generator: np.random.Generator, sd: float, shape: tuple) -> np.ndarray:
    """Logs of log-normal factors whose mean is 1."""
    return generator.normal(-(sd**2) / 2, sd, shape)


def gene_symbols(num_genes: int) -> np.ndarray:
    """Real symbols while they last, then SIM00001, SIM00002, ..."""
    text = existing(SYMBOLS, "the gene symbols that ship with vcpipe").read_text()
    symbols = text.split()[:num_genes]
    made_up = [f"SIM{number:05d}" for number in range(1, num_genes - len(symbols) + 1)]
    return np.array(symbols + made_up)


def draw_network(
    config: Simulation, log_mean_G: np.ndarray, generator: np.random.Generator
) -> Network:
    """Choose targets among well-expressed genes and draw the edges of every regulator."""
    # Neighbours in the list of symbols are one family, so a program is a stretch of it.
    program_G = np.arange(config.num_genes) * config.num_programs // config.num_genes
    targets_T = draw_targets(config, program_G, log_mean_G, generator)
    has_effect_T = np.ones(config.num_targets, dtype=bool)
    num_null = round(config.null_fraction * config.num_targets)
    has_effect_T[generator.permutation(config.num_targets)[:num_null]] = False

    # As many regulators again are never perturbed: effects pass through them.
    others = np.setdiff1d(np.arange(config.num_genes), targets_T)
    unperturbed = generator.choice(others, config.num_targets, replace=False)
    regulators = np.sort(np.concatenate([targets_T[has_effect_T], unperturbed]))
    return Network(
        genes=gene_symbols(config.num_genes),
        program_G=program_G,
        targets_T=targets_T,
        has_effect_T=has_effect_T,
        weights_GG=draw_weights(config, program_G, regulators, generator),
    )


def draw_targets(
    config: Simulation,
    program_G: np.ndarray,
    log_mean_G: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Take targets from the better-expressed third of each program, equally often from each."""
    queues = []
    for program in range(config.num_programs):
        members = np.flatnonzero(program_G == program)
        expressed = members[np.argsort(-log_mean_G[members])][: len(members) // 3]
        queues.append(generator.permutation(expressed))
    shortest = min(len(queue) for queue in queues)
    in_turn = np.stack([queue[:shortest] for queue in queues], axis=1).ravel()
    return np.sort(in_turn[: config.num_targets])


def draw_weights(
    config: Simulation,
    program_G: np.ndarray,
    regulators: np.ndarray,
    generator: np.random.Generator,
) -> sp.csr_matrix:
    """Give each regulator most of its program's edges, slightly changed, and some of its own."""
    scale = config.effect_size / -np.log2(1 - config.knockdown)
    rows, columns, values = [], [], []
    for program in range(config.num_programs):
        mates = np.flatnonzero(program_G == program)
        rest = np.flatnonzero(program_G != program)
        num_mates = config.downstream_genes // 2
        # Mates fall with their regulator, as they do in unperturbed cells; others rise or fall.
        kinds = [
            (mates, np.ones(num_mates)),
            (rest, generator.choice([-1.0, 1.0], config.downstream_genes - num_mates)),
        ]
        for pool, sign in kinds:
            usual = generator.choice(pool, len(sign), replace=False)
            weight = sign * np.exp(generator.normal(0, WEIGHT_SD, len(sign)))
            for regulator in np.intersect1d(regulators, mates):
                own = generator.choice(np.setdiff1d(pool, usual), len(sign), replace=False)
                gene = np.where(generator.random(len(sign)) < SHARED, usual, own)
                change = np.exp(generator.normal(0, WEIGHT_SD, len(sign)))
                kept = gene != regulator
                rows.append(np.full(kept.sum(), regulator))
                columns.append(gene[kept])
                values.append((scale * weight * change)[kept])
    entries = (np.concatenate(rows), np.concatenate(columns))
    shape = (config.num_genes, config.num_genes)
    return sp.csr_matrix((np.concatenate(values), entries), shape)


def responses(config: Simulation, network: Network) -> np.ndarray:
    """Direct effects and those one step further, per log2 change of the target; 1 on itself."""
    largest = LARGEST / -np.log2(1 - config.knockdown)
    direct_TG = network.weights_GG[network.targets_T]
    indirect_TG = PASSED_ON * (direct_TG @ network.weights_GG)
    effect_TG = (direct_TG + indirect_TG).toarray()
    response_TG = (largest * np.tanh(effect_TG / largest)).astype(np.float32)
    response_TG[np.arange(len(network.targets_T)), network.targets_T] = 1
    return response_TG


def draw_guides(
    config: Simulation, network: Network, generator: np.random.Generator
) -> pd.DataFrame:
    """Two or three guides a target, and of controls three: the log2 change that each one makes."""
    num_guides = generator.integers(2, 4, config.num_targets)
    target = np.append(
        np.repeat(np.arange(config.num_targets), num_guides), [config.num_targets] * 3
    )
    label = np.append(network.genes[network.targets_T], CONTROL_LABEL)[target]
    efficiency = np.exp(_log_factors(generator, GUIDE_SD, len(target)))
    change = np.log2(1 - config.knockdown) * efficiency
    made = pd.DataFrame({"target": target, "target_gene": label})
    made["guide_id"] = (
        made["target_gene"] + "_g" + (made.groupby("target").cumcount() + 1).astype(str)
    )
    made["target_change"] = np.where(target < config.num_targets, change, 0.0)
    return made


def draw_cells(
    config: Simulation, guides: pd.DataFrame, generator: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Label all cells in random order; targets differ in their number of cells by up to half."""
    num_controls = round(config.control_fraction * config.num_cells)
    share_T = generator.uniform(0.7, 1.3, config.num_targets)
    perturbed = config.num_cells - num_controls
    ends_T = np.round(np.cumsum(share_T) / share_T.sum() * perturbed).astype(int)
    num_cells_T = np.append(np.diff(ends_T, prepend=0), num_controls)
    target_C = generator.permutation(np.repeat(np.arange(len(num_cells_T)), num_cells_T))

    num_guides_T = guides.groupby("target").size().to_numpy()
    first_guide_T = np.cumsum(num_guides_T) - num_guides_T
    guide_C = first_guide_T[target_C] + generator.integers(0, num_guides_T[target_C])
    batch_C = generator.integers(0, config.num_batches, config.num_cells)
    batches = [f"batch_{number}" for number in range(1, config.num_batches + 1)]
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical(guides["target_gene"].to_numpy()[guide_C]),
            "guide_id": pd.Categorical(guides["guide_id"].to_numpy()[guide_C]),
            "batch": pd.Categorical.from_codes(batch_C, batches),
        },
        index=[f"cell{number:07d}" for number in range(config.num_cells)],
    )
    return obs, guide_C


def true_changes(
    config: Simulation, network: Network, response_TG: np.ndarray, guides: pd.DataFrame
) -> ad.AnnData:
    """True log2 fold changes of the mean over a target's guides, which have equal shares."""
    log2fc_TG = np.empty_like(response_TG)
    for target in range(config.num_targets):
        change = guides.loc[guides["target"] == target, "target_change"].to_numpy()
        fold = np.exp2(change[:, None] * response_TG[target].astype(np.float64))
        log2fc_TG[target] = np.log2(fold.mean(axis=0))
    own = log2fc_TG[np.arange(config.num_targets), network.targets_T]
    obs = pd.DataFrame(
        {"knockdown": 1 - np.exp2(own), "has_effect": network.has_effect_T},
        index=network.genes[network.targets_T],
    )
    var = pd.DataFrame({"program": network.program_G}, index=network.genes)
    return ad.AnnData(log2fc_TG, obs, var, uns={"simulation": settings(config)})


def draw_counts(plan: Plan, block: int) -> sp.csr_matrix:
    """Count the cells of one block of rows, with a generator of its own."""
    config = plan.config
    generator = _generator(config.seed, BLOCKS, block)
    rows = slice(block * BLOCK, min((block + 1) * BLOCK, config.num_cells))
    target_C = plan.target_C[rows]
    num_cells = len(target_C)

    activity_CP = generator.normal(0, config.program_variation, (num_cells, config.num_programs))
    log_library_C = _log_factors(generator, LIBRARY_SD, num_cells)
    # The mean of exp(activity × loading) is exp(half its variance); depth is meant after it.
    level_G = plan.log_mean_G - (config.program_variation * plan.loading_G) ** 2 / 2
    log_mean_CG = (level_G + plan.log_batch_BG[plan.batch_C[rows]]).astype(np.float32)
    log_mean_CG += log_library_C[:, None].astype(np.float32)
    log_mean_CG += (activity_CP[:, plan.network.program_G] * plan.loading_G).astype(np.float32)
    perturbed = target_C < config.num_targets
    change_C1 = np.log(2) * plan.target_change_C[rows][perturbed, None]
    log_mean_CG[perturbed] += change_C1.astype(np.float32) * plan.response_TG[target_C[perturbed]]
    noise_CG = generator.standard_gamma(1 / config.dispersion, log_mean_CG.shape, dtype=np.float32)
    counts_CG = generator.poisson(np.exp(log_mean_CG) * noise_CG * np.float32(config.dispersion))
    return sp.csr_matrix(counts_CG.astype(np.float32))


def write_screen(path: Path, plan: Plan, blocks_per_write: int = 4) -> None:
    """Write the screen as VCC's h5ad is: raw counts as float32 in CSR, obs and var."""
    num_blocks = -(-plan.config.num_cells // BLOCK)
    names = pd.DataFrame(index=plan.network.genes)
    empty = sp.csr_matrix((0, plan.config.num_genes), dtype=np.float32)
    storage = {
        "chunks": (1 << 16,),
        "compression": "gzip",
        "compression_opts": 1,
        "shuffle": True,
        "indptr_dtype": np.int64,  # VCC's size comes near what int32 can count
    }
    with writing_hdf5(path) as file:
        labels = ad.AnnData(obs=plan.obs, var=names, uns={"simulation": settings(plan.config)})
        ad.io.write_elem(file, "/", labels)
        ad.io.write_elem(file, "X", empty, dataset_kwargs=storage)
        matrix = ad.io.sparse_dataset(file["X"])
        for start in range(0, num_blocks, blocks_per_write):
            blocks = range(start, min(start + blocks_per_write, num_blocks))
            matrix.append(sp.vstack([draw_counts(plan, block) for block in blocks], format="csr"))


def write_truth(path: Path, plan: Plan) -> None:
    """Write the true log2 fold changes, targets × genes."""
    with writing(path) as partial:
        plan.truth.write_h5ad(partial)


def write_network(path: Path, network: Network) -> None:
    """Write the edges: regulator, gene, and log2 change of the gene per log2 change of it."""
    edges = network.weights_GG.tocoo()
    table = pd.DataFrame(
        {
            "regulator": network.genes[edges.row],
            "gene": network.genes[edges.col],
            "weight": edges.data,
        }
    )
    with writing(path) as partial:
        table.to_csv(partial, sep="\t", index=False, float_format="%.6g")
