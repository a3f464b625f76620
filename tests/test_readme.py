"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_examples_give_what_they_say():
    detector, clustering, suppressors, own = BLOCKS
    names = {}
    exec(detector, names)
    assert len(names["losses"]) == 6
    assert list(names["rows"]) == ["nms", "post_nms"]
    exec(clustering, names)
    assert "# [0, 2]: what NMS keeps; [0, 0, 1]: the key that owns each box" in clustering
    assert names["keys"].tolist() == [0, 2]
    assert names["assignment"].tolist() == [0, 0, 1]
    exec(suppressors, names)
    exec(own, names)
    assert names["FirstOnly"]()(names["candidates"]).source.tolist() == [0]
    assert names["FirstOnly"](least_score=0.95)(names["candidates"]).source.tolist() == []


@pytest.mark.parametrize(
    "page", [README, *README.parent.glob("docs/**/*.md")], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (page.parent / target).exists(), target
