"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_examples_give_what_they_say():
    detector, clustering = BLOCKS
    names = {}
    exec(detector, names)
    assert len(names["losses"]) == 6
    assert list(names["rows"]) == ["nms", "post_nms"]
    exec(clustering, names)
    assert "# [0, 2]: what NMS keeps; [0, 0, 1]: the key that owns each box" in clustering
    assert names["keys"].tolist() == [0, 2]
    assert names["assignment"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("page", [README, *README.parent.glob("docs/**/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
