"""What a digest of code sees, on a small project of its own."""

import pytest

from vcpipe import provenance


@pytest.fixture
def project(tmp_path, monkeypatch):
    """scripts/step.py imports vcpipe.used, which imports vcpipe.deep; vcpipe.other stands alone."""
    files = {
        "scripts/__init__.py": "",
        "scripts/step.py": "def main():\n    from vcpipe.used import work\n    work()\n",
        "workflow/vcpipe/__init__.py": "",
        "workflow/vcpipe/used.py": (
            '"""Used."""\nfrom vcpipe import deep\n\n'
            'def work():\n    """Do."""\n    return deep.VALUE\n'
        ),
        "workflow/vcpipe/deep.py": "VALUE = 1\n",
        "workflow/vcpipe/other.py": "VALUE = 2\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "ROOTS", {"vcpipe": tmp_path / "workflow", "scripts": tmp_path})
    return tmp_path


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflow/vcpipe/used.py", "    return", "    # why\n    return"),
        ("workflow/vcpipe/used.py", '"""Do."""', '"""Do it well."""'),
        ("workflow/vcpipe/used.py", '    """Do."""\n', ""),
        ("workflow/vcpipe/used.py", '"""Used."""\n', ""),
        ("workflow/vcpipe/used.py", "return deep.VALUE", "return (\n        deep.VALUE\n    )"),
        ("workflow/vcpipe/other.py", "2", "3"),
    ],
)
def test_what_changes_no_computation_changes_no_digest(project, file, old, new):
    before = provenance.code("step")
    edit(project / file, old, new)
    assert provenance.code("step") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/step.py", "work()", "work(); work()"),
        ("workflow/vcpipe/used.py", "deep.VALUE", "deep.VALUE + 1"),
        ("workflow/vcpipe/deep.py", "1", "2"),
        ("workflow/vcpipe/__init__.py", "", "x = 1"),
    ],
)
def test_an_edit_of_anything_imported_changes_the_digest(project, file, old, new):
    before = provenance.code("step")
    edit(project / file, old, new)
    assert provenance.code("step") != before


def test_every_rule_of_the_project_has_a_digest_of_its_own():
    rules = ["simulate_screen", "convert_to_gears", "pretrain", "score_perturbations", "summarise"]
    assert len({provenance.code(rule) for rule in rules}) == len(rules)


def test_a_touch_changes_no_digest(project):
    before = provenance.code("step")
    (project / "workflow/vcpipe/deep.py").touch()
    assert provenance.code("step") == before
