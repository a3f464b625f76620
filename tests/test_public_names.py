"""What is public: the names of the faces, and nothing else in the documents."""

import ast
import importlib
import re

import pytest
from handbook.public_names import faces, public_names
from handbook.reference import reference_pages, verbs

import postnms
from tests.support.pages import PAGES, examples
from tests.support.source import SOURCE

FACES = (
    "postnms",
    "postnms.ops",
    "postnms.suppression",
    "postnms.stage",
    "postnms.detectors",
    "postnms.data",
    "postnms.evaluation",
    "postnms.candidate_files",
    "postnms.rescoring",
    "postnms.rivals",
    "postnms.recipes",
    "postnms.prediction",
    "postnms.training",
)
"""The packages whose ``__all__`` names what is public."""


def documented_imports(page):
    """Return (module, name) for every import of this library in the Python blocks of a page."""
    for block in examples(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "postnms":
                yield from ((node.module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                assert not any(name.startswith("postnms.") for name in names), names


@pytest.mark.parametrize("face", FACES)
def test_a_face_names_what_it_has(face):
    module = importlib.import_module(face)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None, name


def test_these_are_all_faces():
    """The reference of the documents is made of ``faces()``: none of its pages can be forgotten."""
    assert set(faces()) == set(FACES)


def test_the_reference_has_every_public_name_once():
    names, pages = public_names(), reference_pages()
    blocks = re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    for face, listed in names.items():
        assert [name.name for name in listed] == sorted(
            importlib.import_module(face).__all__, key=str.lower
        )
        for name in listed:
            holder, _, last = name.where.rpartition(".")
            found = getattr(importlib.import_module(holder), last)
            assert found is getattr(importlib.import_module(face), name.name), name
            assert name.summary, f"{name.where} has no docstring"
            assert f"[`{name.name}`][{name.where}] | " in pages[f"reference/{face}.md"]
            assert blocks.count(name.where) == 1, name.where
    assert len(blocks) == len({name.where for listed in names.values() for name in listed}) + len(
        FACES[1:]
    )


def test_the_reference_has_every_verb():
    page = reference_pages()["reference/cli.md"]
    titles = re.findall(r"^## `postnms (.+)`$", page, re.MULTILINE)
    assert titles == [" ".join(words) for words, _ in verbs()]
    assert {"train", "eval", "recipes show"} <= set(titles)
    assert "| `--plots` | Write curves.png" in page


def test_what_a_detector_or_suppressor_of_a_user_needs_is_at_the_top():
    needed = (
        "FasterRCNNConfig RetinaNetConfig CascadeRCNNConfig TorchvisionConfig Network Selection "
        "ImageBatch Ranked Kept Suppressor Candidates Level Targets attach clip divisor limit "
        "as_at_test"
    )
    assert set(needed.split()) <= set(postnms.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", postnms.__version__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = postnms.no_such_name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_import_public_names_only(page):
    for module, name in documented_imports(page):
        assert module in FACES, f"{page.name} imports {module}"
        assert name in importlib.import_module(module).__all__, f"{page.name}: {module}.{name}"


def test_the_package_is_typed():
    assert (SOURCE / "py.typed").is_file()
