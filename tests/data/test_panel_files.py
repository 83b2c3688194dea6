import pytest

from vcpipe.data.panel_files import hit_rates, read_panels
from vcpipe.errors import InputError

IDS = {f"ENSG{number:011d}": number + 2 for number in range(9)}


@pytest.fixture
def folder(tmp_path):
    write(
        tmp_path / "human/xenium.csv", "Gene,Ensembl_ID\nA,ENSG00000000003\nB,ENSG00000000001.12\n"
    )
    write(tmp_path / "human/cosmx.csv", "Ensembl_ID\nENSG00000000000\nENSG99999999999\n\n")
    write(tmp_path / "mouse/vizgen.csv", "Ensembl_ID\nENSMUSG00000000001\n")
    return tmp_path


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_panels_are_read_by_name_with_ids_of_the_vocabulary(folder):
    panels = read_panels(folder, "human", IDS, {})
    assert [panel.name for panel in panels] == ["cosmx", "xenium"]
    assert [panel.genes.tolist() for panel in panels] == [[2], [3, 5]]


def test_versions_of_ids_do_not_matter_on_either_side(folder):
    versioned = {f"{name}.4": number for name, number in IDS.items()}
    by_name = read_panels(folder, "human", versioned, {})
    by_id = read_panels(folder, "human", {"A": 0, "B": 1}, versioned)
    for panels in (by_name, by_id):
        assert [panel.genes.tolist() for panel in panels] == [[2], [3, 5]]


def test_aliases_lead_from_an_id_to_a_symbol(folder):
    aliases = {
        "ENSG00000000000": ("A1",),
        "ENSG00000000003": ("B1", "C1"),
        "ENSG00000000001": ("B1",),
    }
    panels = read_panels(folder, "human", {"A1": 7, "B1": 8, "C1": 9}, {}, aliases)
    # An id that may be two genes is none of them.
    assert [panel.genes.tolist() for panel in panels] == [[7], [8]]


def test_the_hit_rate_of_each_panel_is_reported(folder):
    table = hit_rates(read_panels(folder, "human", IDS, {}))
    assert table.to_dict("list") == {
        "panel": ["cosmx", "xenium"],
        "num_genes": [2, 2],
        "num_known": [1, 2],
        "hit_rate": [0.5, 1.0],
    }


def test_a_flattened_folder_is_refused(tmp_path):
    write(tmp_path / "flat/xenium.csv", "Ensembl_ID\nENSG00000000003\n")
    with pytest.raises(InputError, match=r"xenium.csv lie in .*flat itself; move those of human"):
        read_panels(tmp_path / "flat", "human", IDS, {})


def test_a_species_without_panels_is_refused(folder):
    with pytest.raises(InputError, match=r"rat has no panel .* folders for human, mouse"):
        read_panels(folder, "rat", IDS, {})
    with pytest.raises(InputError, match=r"is no folder; expected panels in"):
        read_panels(folder / "absent", "human", IDS, {})
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="set panel_selection: random"):
        read_panels(folder / "empty", "human", IDS, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene_id\nENSG00000000003\n", "has the columns gene_id; expected Ensembl_ID"),
        ("", "is no CSV"),
        ("Ensembl_ID\n\n", "lists no gene"),
        ("Ensembl_ID\nENSG77777777777\n", "none of its 1 genes"),
    ],
)
def test_a_file_that_is_no_panel_is_refused(folder, text, message):
    write(folder / "human/wrong.csv", text)
    with pytest.raises(InputError, match=message) as refused:
        read_panels(folder, "human", IDS, {})
    assert "wrong.csv" in str(refused.value)
