"""What a page of an experiment and its records may replace."""

import pytest

from postnms.errors import UserError
from postnms.experiments.page import MADE_BY
from postnms.experiments.writing import check_page
from postnms.files.tensor_files import save_tensors
from tests.support.experiments import planned


def test_no_other_file_is_replaced_by_a_page(tmp_path):
    path, plan = tmp_path / "README.md", planned(tmp_path)
    check_page(path, plan)
    path.write_text(f"{MADE_BY}\n# Mine")
    check_page(path, plan)
    path.write_bytes(f"{MADE_BY}\r\n# Mine".encode())
    check_page(path, plan)
    path.write_text("# Mine")
    with pytest.raises(UserError, match=r"^page: .*README.md: is there and is no page of"):
        check_page(path, plan)
    with pytest.raises(UserError, match=r"^page: .*page.txt: expected a name that ends in .md"):
        check_page(tmp_path / "page.txt", plan)


@pytest.mark.parametrize(("name", "field"), [("summary", "seeds"), ("stage_0", "arm")])
@pytest.mark.parametrize("content", ["mine", "[]", '{"experiment": "mine"}'])
def test_no_other_summary_or_record_is_replaced_by_that_of_a_page(tmp_path, content, name, field):
    plan, file = planned(tmp_path), tmp_path / "page" / f"{name}.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(UserError, match=rf"^page: .*{name}.json: is there and is no file of"):
        check_page(tmp_path / "page.md", plan)
    file.write_text(f'{{"experiment": "A stage", "{field}": null}}')
    check_page(tmp_path / "page.md", plan)


def test_no_tensors_of_the_user_are_replaced_by_those_beside_a_record(tmp_path):
    plan, file = planned(tmp_path), tmp_path / "page" / "stage_0.safetensors"
    file.parent.mkdir()
    for about in ({}, {"run": "stage_3"}):
        save_tensors(file, {}, about)
        with pytest.raises(UserError, match=r"^page: .*stage_0.safetensors: is there and lies "):
            check_page(tmp_path / "page.md", plan)
    save_tensors(file, {}, {"run": "stage_0"})
    check_page(tmp_path / "page.md", plan)
    file.write_text("mine")
    with pytest.raises(UserError, match=r"^page: .*stage_0.safetensors: is there and lies "):
        check_page(tmp_path / "page.md", plan)


def test_records_do_not_lie_among_the_runs(tmp_path):
    """The candidates of a run have the name of what lies beside its record."""
    plan = planned(tmp_path)
    with pytest.raises(UserError, match=r"mine.md: its records would lie among the runs in .*mine"):
        check_page(plan.folder.with_suffix(".md"), plan)
    check_page(plan.folder / "page.md", plan)
