"""Atlases that are fetched in envs of their own, and folders of 10x."""

from tests.workflow.tiny_atlas import write_atlas

ATLASES = """
atlases:
  brain:
    census: {uri: soma, filters: {tissue: brain}}
    donor_key: donor_id
  heart:
    artifact: {instance: laminlabs/cellxgene, key: heart.h5ad}
"""
TARGETS = (
    "results/fetch_census/brain/cells.h5ad",
    "results/fetch_artifact/heart/cells.h5ad",
)


def with_atlases(workflow):
    path = workflow.folder / "tests/workflow/config.yaml"
    path.write_text(path.read_text() + ATLASES)
    return workflow


def test_the_default_target_fetches_no_atlas(fresh):
    assert not {"fetch_census", "fetch_artifact"} & set(with_atlases(fresh).planned())


def test_a_rule_without_its_env_says_which_command_makes_it(fresh):
    done = with_atlases(fresh).run(*TARGETS, "--keep-going", check=False)
    assert done.returncode != 0
    for rule, target, env in zip(
        ("fetch_census", "fetch_artifact"), TARGETS, ("census", "lamindb"), strict=True
    ):
        atlas = target.split("/")[2]
        log = (fresh.folder / f"results/logs/{rule}/{atlas}.log").read_text()
        venv = fresh.folder / ".venvs" / env
        assert log == f"error: {venv} is not there; make it (minutes, once): make env NAME={env}\n"


def test_an_atlas_is_fetched_only_from_where_it_is(fresh):
    workflow = with_atlases(fresh)
    done = workflow.run("-n", "results/fetch_census/heart/cells.h5ad", check=False)
    assert "MissingRuleException" in done.stdout + done.stderr


def test_a_folder_in_a_folder_of_10x_does_not_disturb(fresh):
    write_atlas(fresh.folder / "atlas")
    (fresh.folder / "tenx/analysis").mkdir(parents=True)
    (fresh.folder / "tenx/matrix.mtx").touch()
    fresh.edit(
        "tests/workflow/atlas.yaml", "rna: {paths: [atlas/rna.h5ad]}", "rna: {paths: [tenx]}"
    )
    target = "results/build_vocabulary/cells"
    assert fresh.planned(target=target, config="tests/workflow/atlas.yaml") == {
        "build_vocabulary": 1
    }
