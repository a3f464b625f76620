"""Pascal VOC's XML files and lists, right and odd ones."""

import pytest

from postnms.data.layouts import recognise
from postnms.errors import UserError
from tests.support.data_folders import write_image, write_text

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>5</xmin><ymin>7</ymin><xmax>14</xmax><ymax>18</ymax></bndbox>"


def thing(inside=BOX, name="cat"):
    return f"<object><name>{name}</name><pose>Left</pose>{inside}</object>"


def write(root, body, size=SIZE, name="a", head=""):
    write_image(root / "JPEGImages" / f"{name}.jpg")
    text = f"<annotation><filename>wrong.jpg</filename>{size}{body}</annotation>"
    write_text(root / "Annotations" / f"{name}.xml", head + text)


def boxes(root, split="train"):
    return [entry["bbox"] for entry in recognise(root).truth(split).annotations]


def test_pixels_count_from_one_and_both_corners_belong_to_the_box(tmp_path):
    """Columns 5 to 14 and rows 7 to 18 are ten columns and twelve rows."""
    write(tmp_path, thing())
    assert boxes(tmp_path) == [[4, 6, 10, 12]]
    assert recognise(tmp_path).describe() == (
        "Pascal VOC: train 1 images, 1 classes; corners are read as pixels counted from 1"
    )


def test_a_corner_less_than_one_anywhere_says_that_edges_count_from_zero(tmp_path):
    write(tmp_path, thing())
    write(tmp_path, thing(BOX.replace("<xmin>5", "<xmin>0")), name="b")
    assert boxes(tmp_path) == [[5, 7, 9, 11], [0, 7, 14, 11]]
    said = "; a corner is less than 1, so corners are read as edges counted from 0"
    assert recognise(tmp_path).describe().endswith(said)


def test_difficult_objects_are_crowd_regions(tmp_path):
    write(tmp_path, thing() + thing(f"<difficult>1</difficult>{BOX}", "big dog"))
    found = recognise(tmp_path)
    assert [entry["iscrowd"] for entry in found.truth("train").annotations] == [0, 1]
    assert found.read("train").records[0].crowd.tolist() == [False, True]
    assert "1 difficult objects are crowd regions" in found.describe()


def test_parts_of_an_object_are_no_objects(tmp_path):
    part = f"<part><name>head</name>{BOX.replace('5', '6')}</part>"
    write(tmp_path, f"<object>{part}<name> cat\n</name>{BOX}</object>")
    found = recognise(tmp_path)
    assert [category.name for category in found.read("train").categories] == ["cat"]
    assert boxes(tmp_path) == [[4, 6, 10, 12]]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_not_written_is_that_of_the_image(tmp_path, size):
    write(tmp_path, thing(), size)
    record = recognise(tmp_path).read("train").records[0]
    assert (record.height, record.width) == (30, 40)


WRONG = {
    "polygon": (
        thing("<polygon><x1>1</x1></polygon>"),
        r"object 1 \('cat'\): expected a bndbox, got",
    ),
    "no box": (thing() + thing(""), r"a\.xml: object 2 \('cat'\): expected a bndbox, got only"),
    "no name": (thing(name=""), r"a\.xml: object 1: name: expected a text, got none"),
    "text": (thing(BOX.replace("14", "x")), r"object 1: bndbox\.xmax: expected a number, got 'x'"),
    "NaN": (thing(BOX.replace("14", "nan")), r"bndbox\.xmax: expected a number, got 'nan'"),
    "no corner": (thing(BOX.replace("xmax", "x")), r"bndbox\.xmax: expected a number, got ''"),
    "inverted": (
        thing(BOX.replace("14", "2")),
        r"bndbox: expected xmin <= xmax, ymin <= ymax, got",
    ),
    "difficult": (thing("<difficult>2</difficult>" + BOX), r"difficult: expected 0 or 1, got '2'"),
    "not closed": ("<object>", r"a\.xml: malformed XML \(mismatched tag"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_object_is_one_line(tmp_path, name):
    body, message = WRONG[name]
    write(tmp_path, body)
    with pytest.raises(UserError, match=message):
        recognise(tmp_path)


def test_a_wrong_size_and_another_root_are_named(tmp_path):
    write(tmp_path, thing(), SIZE.replace("40", "-4"))
    with pytest.raises(UserError, match=r"a\.xml: size\.width: expected an integer >= 0, got '-4'"):
        recognise(tmp_path)
    write_text(tmp_path / "Annotations" / "a.xml", "<svg/>")
    with pytest.raises(UserError, match=r"a\.xml: expected the element 'annotation', got 'svg'"):
        recognise(tmp_path)


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY b "cat"><!ENTITY c "&b;&b;&b;">]>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
    ],
)
def test_document_types_and_entities_are_refused(tmp_path, head):
    write(tmp_path, thing(name="&b;" if "ENTITY" in head else "cat"), head=head)
    with pytest.raises(
        UserError, match=r"a\.xml: expected XML without a document type or entities"
    ):
        recognise(tmp_path)


def test_lists_with_spaces_and_crlf_name_the_splits(tmp_path):
    for name in ("a b", "ö", "left out"):
        write(tmp_path, thing(), name=name)
    lists = tmp_path / "ImageSets" / "Main"
    write_text(lists / "train.txt", "a b\r\n")
    write_text(lists / "test.txt", "\ufeffö\n\n")
    write_text(lists / "cat_train.txt", "a b  1\nö -1\n")
    found = recognise(tmp_path)
    assert list(found.splits) == ["train", "test"]
    assert [record.path.name for record in found.read("train").records] == ["a b.jpg"]
    assert [record.id for record in found.read("test").records] == ["JPEGImages/ö.jpg"]
    assert "no XML file" not in found.describe()


def test_trainval_is_trained_on_if_there_is_no_train(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, thing(), name=name)
        write_text(
            tmp_path / "ImageSets/Main" / f"{'trainval' if name == 'a' else 'test'}.txt", name
        )
    found = recognise(tmp_path)
    assert list(found.splits) == ["train", "test"]
    assert found.describe().startswith("Pascal VOC: trainval 1, test 1 images")


def test_images_and_xml_files_without_each_other_are_told(tmp_path):
    write(tmp_path, thing())
    write_image(tmp_path / "JPEGImages" / "alone.png")
    assert "; 1 images have no XML file (first: 'alone.png')" in recognise(tmp_path).describe()
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    record = recognise(tmp_path).read("train").records[0]
    assert record.path == tmp_path / "JPEGImages" / "a.jpg"
    write_text(tmp_path / "ImageSets/Main/train.txt", "a\nno\nnone\n")
    with pytest.raises(
        UserError, match=r"train\.txt: of 3 images 2 have no file in Annotations: no"
    ):
        recognise(tmp_path)


def test_the_same_stem_in_two_sub_folders_is_two_images(tmp_path):
    write(tmp_path, thing(), name="x/a")
    write(tmp_path, thing(name="dog"), name="y/a")
    dataset = recognise(tmp_path).read("train")
    found = {record.id: dataset.categories[record.labels[0]].name for record in dataset.records}
    assert found == {"JPEGImages/x/a.jpg": "cat", "JPEGImages/y/a.jpg": "dog"}


def test_xml_files_among_the_images_of_splits(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / split / "a.b.jpg")
        text = f"<annotation>{SIZE}{thing()}</annotation>"
        write_text(tmp_path / split / "a.b.xml", text)
    found = recognise(tmp_path)
    assert list(found.splits) == ["train", "val"]
    assert found.read("val").records[0].id == "valid/a.b.jpg"


def test_a_folder_without_objects_is_refused(tmp_path):
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(UserError, match=r"Annotations: expected XML files, got none"):
        recognise(tmp_path)
    write(tmp_path, "")
    with pytest.raises(UserError, match=r"Pascal VOC: expected objects in the XML files, got none"):
        recognise(tmp_path)
