"""Ridge regression from a target's gene components to its effect (Ahlmann-Eltze et al. 2025).

The effects Y of the training perturbations are fitted by E K T + b: E are the principal components
of genes in the training profiles, T the rows of E for the perturbed genes, b the mean effect.
"""

# P perturbations, C cells, G genes, K components

import numpy as np

from vcpipe.config.eval import RidgePca
from vcpipe.data.screen import perturbed_genes
from vcpipe.errors import listed
from vcpipe.evaluation.profiles import TrainingProfiles


def fit(training: TrainingProfiles, config: RidgePca) -> dict[str, np.ndarray]:
    """Solve for K [components, components] by ridge regression from both sides."""
    effect_PG = training.mean_PG - training.control_G
    mean_effect_G = effect_PG.mean(axis=0)
    profiles_PG = np.vstack([training.control_G, training.mean_PG])
    component_GK = gene_components(profiles_PG, config.num_components)
    # A target that is no measured gene has no components; its effect still counts in the mean.
    known = [p for p, name in enumerate(training.conditions) if _known(name, training.genes)]
    target_KP = np.zeros((component_GK.shape[1], len(known)))
    for column, p in enumerate(known):
        target_KP[:, column] = _target(training.conditions[p], training.genes, component_GK)
    residual_GP = (effect_PG[known] - mean_effect_G).T
    ridge_KK = config.penalty * np.eye(component_GK.shape[1])
    left_KP = np.linalg.solve(
        component_GK.T @ component_GK + ridge_KK, component_GK.T @ residual_GP
    )
    mixing_KK = np.linalg.solve(target_KP @ target_KP.T + ridge_KK, target_KP @ left_KP.T).T
    return {
        "genes": training.genes,
        "control": training.control_G,
        "mean_effect": mean_effect_G,
        "component": component_GK,
        "mixing": mixing_KK,
    }


def gene_components(profiles_PG: np.ndarray, num_components: int) -> np.ndarray:
    """Scores of genes on the principal components of the profiles, at most as many as profiles."""
    centred_GP = (profiles_PG - profiles_PG.mean(axis=1, keepdims=True)).T
    u_GK, scale_K, _ = np.linalg.svd(centred_GP, full_matrices=False)
    return (u_GK * scale_K)[:, :num_components]


def predict_cells(
    parameters: dict[str, np.ndarray], condition: str, control_cells_CG: np.ndarray
) -> np.ndarray:
    """The predicted profile for each cell; the mean effect where a target is no measured gene."""
    profile_G = parameters["control"] + parameters["mean_effect"]
    if _known(condition, parameters["genes"]):
        target_K = _target(condition, parameters["genes"], parameters["component"])
        profile_G = profile_G + parameters["component"] @ (parameters["mixing"] @ target_K)
    return np.repeat(profile_G[None].clip(min=0), len(control_cells_CG), axis=0)


def notes(parameters: dict[str, np.ndarray], conditions: list[str]) -> list[str]:
    unknown = [name for name in conditions if not _known(name, parameters["genes"])]
    if not unknown:
        return []
    return [
        f"ridge_pca predicts the training mean for {listed(unknown)}: "
        "a perturbed gene is not among the measured genes."
    ]


def _known(condition: str, genes: np.ndarray) -> bool:
    return bool(np.isin(perturbed_genes(condition), genes).all())


def _target(condition: str, genes: np.ndarray, component_GK: np.ndarray) -> np.ndarray:
    """Components of the perturbed genes, summed for a combination."""
    return component_GK[np.isin(genes, perturbed_genes(condition))].sum(axis=0)
