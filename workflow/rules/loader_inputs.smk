# What the rules of loader.smk read, as the section loader says it.

from vcpipe.config.loader import STRATEGIES, TASKS, plate_numbers


def loader_section():
    if PIPELINE.loader is None:
        raise InputError(
            "The configuration has no section loader; expected one, such as "
            "loader: {from: config/loader/default.yaml}."
        )
    return PIPELINE.loader


def plates_folder(wildcards):
    """Where the plates lie: simulated, or the user's own."""
    data = loader_section().data
    return "results/simulate_plates/plates" if data.simulate else data.h5ad_dir


def simulated_plates(wildcards):
    """The folder of plates as an input, where a rule makes it."""
    data = loader_section().data
    if data.simulate:
        return plates_folder(wildcards)
    if not Path(data.h5ad_dir).is_dir():
        raise InputError(
            f"loader.data.h5ad_dir is {data.h5ad_dir!r}, and there is no such folder; expected one "
            "with an h5ad file for each plate, or loader.data.simulate for plates to try with."
        )
    return []


def content_of_training_plates(wildcards):
    """The content of the user's own plates that are learned from."""
    return content_of_plates(loader_section().data.train_plates)


def content_of_all_plates(wildcards):
    """The content of the user's own plates that are learned from, choose or are scored."""
    data = loader_section().data
    return content_of_plates([*data.train_plates, *data.val_plates, *data.test_plates])


def content_of_plates(numbers):
    """By number, for other plates may lie in the folder."""
    folder = loader_section().data.h5ad_dir
    files = sorted(Path(folder).glob("[!.]*.h5ad")) if folder else []
    return [content_of(file) for file in files if plate_numbers(file.name) & set(numbers)]


def content_of_labels(wildcards):
    """The content of the user's own labels; shuffle_plates and collect_plates read none."""
    folder = loader_section().data.label_dir
    return [content_of(Path(folder) / f"{task}.json") for task in TASKS] if folder else []


def chosen_strategy(wildcards):
    """A strategy that is to be run; one that is disabled is no target."""
    enabled = loader_section().strategies.enabled()
    if wildcards.strategy not in enabled:
        raise InputError(
            f"loader.strategies.{wildcards.strategy}.enabled is false; set it to true, or choose "
            f"one of {', '.join(enabled)}."
        )
    return wildcards.strategy


def rewritten_cells(backend, path):
    """The store or the collection, where the strategy reads it."""

    def input_of(wildcards):
        its = loader_section().backend_of(chosen_strategy(wildcards))
        return path if its == backend else []

    return input_of
