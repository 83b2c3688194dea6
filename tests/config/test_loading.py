import pytest

from vcpipe.config.loading import Loading
from vcpipe.config.pipeline import Pipeline, contradictions

ATLAS = {"rna": {"paths": ["a.h5ad"]}, "cell_type_key": "type"}


def pipeline(loading=None, finetune=None, **corpus) -> list[str]:
    return contradictions(
        Pipeline.model_validate(
            {
                "datasets": {"d": {"path": "d.h5ad"}},
                "atlases": {"one": ATLAS, "two": {"rna": {"paths": ["b.h5ad"]}}},
                "splits": {"s": {"method": "no_split", "seed": 1}},
                "preprocess": {"c": {"atlases": ["one"]} | corpus},
                "pretrain": {"p": {"corpus": "c", "loading": loading or {}}},
                "finetune": {
                    "f": {
                        "dataset": "d",
                        "split": "s",
                        "pretrained": "folder",
                        "loading": finetune or {},
                        "training": {"early_stopping": {"monitor": "train_loss"}},
                    }
                },
            }
        )
    )


def test_the_defaults_contradict_nothing():
    assert pipeline() == []


@pytest.mark.parametrize("strategy", ["block_weighted", "true_weighted", "class_balanced"])
def test_weighted_strategies_need_labels(strategy):
    with pytest.raises(ValueError, match=f"strategy is {strategy} and weight_by is \\[\\]"):
        Loading(strategy=strategy)
    assert Loading(strategy=strategy, weight_by=["drug"]).weight_by == ["drug"]


def test_labels_that_no_strategy_reads_are_refused():
    with pytest.raises(ValueError, match="others have no use for them"):
        Loading(weight_by=["drug"])


def test_cell_by_cell_leaves_no_block_size():
    with pytest.raises(ValueError, match="block_size is 16 and strategy is random_sampling"):
        Loading(strategy="random_sampling", block_size=16)
    assert Loading(strategy="random_sampling", block_size=1).block_size == 1


def test_a_number_of_draws_is_of_weighted_strategies():
    with pytest.raises(ValueError, match="num_samples is 7 and strategy is streaming"):
        Loading(strategy="streaming", num_samples=7)


def test_groups_must_be_kept_together_by_the_store():
    within = {"strategy": "within_group"}
    (found,) = pipeline(within)
    assert found == (
        "pretrain.p.loading.strategy is within_group, but preprocess.c.store.group_by is empty; "
        "expected the labels of the groups"
    )
    assert pipeline(within, store={"group_by": ["cell_type"]}) == []


def test_weights_are_by_labels_that_all_cells_have():
    by_type = {"strategy": "class_balanced", "weight_by": ["cell_type"]}
    assert pipeline(by_type) == []
    (found,) = pipeline(by_type, atlases=["one", "two"])
    assert "weight_by names cell_type; all cells of preprocess.c have batch, dataset. Add" in found


def test_a_screen_has_labels_of_its_own_and_no_groups():
    assert pipeline(finetune={"strategy": "class_balanced", "weight_by": ["condition"]}) == []
    (found,) = pipeline(finetune={"strategy": "class_balanced", "weight_by": ["drug"]})
    assert found.endswith(
        "names drug; expected labels of a screen's cells: batch, cell_type, condition"
    )
    (found,) = pipeline(finetune={"strategy": "within_group"})
    assert "finetune.f.loading.strategy is within_group, which reads groups of a store" in found
