"""Image files of every kind, and the search for them in folders."""

import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from postnms.data import image_modes
from postnms.data.image_files import check_image, find_images, load_image, read_size
from postnms.errors import UserError


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        (Image.new("RGB", (3, 2), (10, 20, 30)), "a.png", (10, 20, 30)),
        (Image.new("RGB", (1, 1), (10, 20, 30)), "a.png", (10, 20, 30)),
        (Image.new("L", (3, 2), 77), "a.png", (77, 77, 77)),
        (Image.new("1", (3, 2), 1), "a.png", (255, 255, 255)),
        (Image.new("LA", (3, 2), (9, 0)), "a.png", (9, 9, 9)),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "a.png", (10, 20, 30)),
        (Image.new("RGB", (3, 2), (10, 20, 30)).quantize(4), "a.png", (10, 20, 30)),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "a.tif", (255, 0, 0)),
        (Image.fromarray(np.full((2, 3), 40000, np.uint16)), "a.png", (156, 156, 156)),
        (Image.fromarray(np.full((2, 3), 40000, np.int32)), "a.tif", (156, 156, 156)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), "a.tif", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 200, np.float32)), "a.tif", (200, 200, 200)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), "a.png", (255, 255, 255)),
        # 8 and 12 bits that are stored in 16.
        (Image.fromarray(np.full((2, 3), 200, np.uint16)), "a.png", (200, 200, 200)),
        (Image.fromarray(np.full((2, 3), 2048, np.uint16)), "a.png", (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), 4095, np.uint16)), "a.tif", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 4096, np.uint16)), "a.tif", (16, 16, 16)),
        (Image.fromarray(np.full((2, 3), 2**30, np.int32)), "a.tif", (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), -5, np.int32)), "a.tif", (0, 0, 0)),
        (Image.fromarray(np.full((2, 3), 0.5, np.float32)), "a.tif", (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), 1.0, np.float32)), "a.tif", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 40000, np.float32)), "a.tif", (156, 156, 156)),
        (Image.new("YCbCr", (3, 2), (128, 128, 128)), "a.tif", (128, 128, 128)),
        (Image.new("LAB", (3, 2), (255, 128, 128)), "a.tif", (255, 255, 255)),
        (Image.new("P", (3, 2)), "a.gif", (0, 0, 0)),
    ],
)
def test_every_kind_becomes_rgb(tmp_path, image, name, colour):
    loaded = load_image(save(image, tmp_path / name))
    assert loaded.mode == "RGB"
    assert loaded.size == image.size
    near = np.abs(np.asarray(loaded).astype(int) - colour)
    assert near.max() <= 4


def tiff(path, values, sample_format, white_is_zero=False):
    """Write a grey TIFF of one row: Pillow itself writes few of the types that it reads."""
    data = values.tobytes()
    tags = [(256, len(values)), (257, 1), (258, values.dtype.itemsize * 8), (259, 1)]
    tags += [(262, int(not white_is_zero)), (273, 8), (277, 1), (278, 1), (279, len(data))]
    tags += [(339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    path.write_bytes(header + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize(
    ("values", "sample_format", "expected"),
    [
        (np.array([0, 2**30, 2**31, 2**32 - 1], "<u4"), 1, [0, 64, 128, 255]),
        (np.array([-5, 0, 2**30, 2**31 - 1], "<i4"), 2, [0, 0, 128, 255]),
        (np.array([-5, 0, 16384, 32767], "<i2"), 2, [0, 0, 128, 255]),
        (np.array([-5, 0, 64, 127], "i1"), 2, [0, 0, 129, 255]),
        (np.array([0, 100, 200, 255], "<i2"), 2, [0, 100, 200, 255]),
        (np.array([0, 1024, 2048, 4095], "<u2"), 1, [0, 64, 128, 255]),
    ],
)
def test_integers_of_a_tiff_are_read_as_they_were_stored(tmp_path, values, sample_format, expected):
    image = load_image(tiff(tmp_path / "a.tif", values, sample_format))
    assert np.asarray(image)[0, :, 0].tolist() == expected


def test_a_tiff_in_which_white_is_zero_is_inverted(tmp_path):
    for values in (np.array([0, 255], "u1"), np.array([0, 65535], "<u2")):
        image = load_image(tiff(tmp_path / "a.tif", values, 1, white_is_zero=True))
        assert np.asarray(image)[0, :, 0].tolist() == [255, 0]


def test_large_images_of_more_than_8_bits_are_converted_strip_by_strip(tmp_path, monkeypatch):
    values = np.arange(7 * 5, dtype=np.uint16).reshape(7, 5) * 1000
    path = save(Image.fromarray(values), tmp_path / "a.png")
    whole = np.asarray(load_image(path))
    monkeypatch.setattr(image_modes, "_STRIP", 10)  # two rows
    assert np.array_equal(np.asarray(load_image(path)), whole)


def test_a_large_image_takes_the_memory_that_is_promised(tmp_path):
    """8 bytes a pixel, as the limit of pixels says; a new process measures its peak."""
    path = save(Image.fromarray(np.full((4000, 4000), 9, np.uint16)), tmp_path / "a.png")
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from postnms.data.image_files import load_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\nload_image(Path(sys.argv[1]))\nprint((peak() - before) * 1024)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    strip = 100e6  # what one strip takes in float64, and what the decoder needs
    assert int(ran.stdout) < 8 * 4000 * 4000 + strip


def noisy_decoder(monkeypatch):
    """Let the reading of the header and the decoding warn, as odd files do."""
    opened, decoded = Image.open, PngImagePlugin.PngImageFile.load

    def warn_and(call):
        def warning(*args, **kwargs):
            warnings.warn_explicit("odd file", UserWarning, "x.py", 1, module="PIL.PngImagePlugin")
            return call(*args, **kwargs)

        return warning

    monkeypatch.setattr(Image, "open", warn_and(opened))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", warn_and(decoded))


def test_warnings_of_decoders_are_not_shown(tmp_path, monkeypatch):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    noisy_decoder(monkeypatch)
    load_image(tmp_path / "a.png")
    check_image(tmp_path / "a.png", (3, 4))


def test_filters_of_warnings_are_as_before_when_threads_have_read_images(tmp_path, monkeypatch):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    noisy_decoder(monkeypatch)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load_image, [tmp_path / "a.png"] * 200))
    assert warnings.filters == before


def rotated(path):
    """Stored 4 wide and 2 high with a red left half; shown turned by 90 degrees."""
    image = Image.new("RGB", (4, 2), "blue")
    image.paste("red", (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(image, path, exif=exif)


def test_the_exif_rotation_is_applied_unless_the_annotations_are_of_the_stored_pixels(tmp_path):
    path = rotated(tmp_path / "a.png")
    shown = load_image(path)
    assert shown.size == (2, 4)
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    assert shown.getpixel((0, 3)) == (0, 0, 255)
    assert load_image(path, size=(4, 2)).size == (2, 4)
    assert load_image(path, size=(2, 4)).size == (4, 2)
    with pytest.raises(UserError, match=r"a\.png: expected 9 x 9 px as annotated, got 4 x 2"):
        load_image(path, size=(9, 9))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_any_other_file(tmp_path, orientation, options):
    """Pillow turns it itself, and says its size as it is shown."""
    stored = np.random.default_rng(0).integers(0, 255, (2, 4, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    tif = save(Image.fromarray(stored), tmp_path / "a.tif", exif=exif, **options)
    png = save(Image.fromarray(stored), tmp_path / "a.png", exif=exif)
    assert read_size(tif) == read_size(png) == load_image(tif).size[::-1]
    np.testing.assert_array_equal(load_image(tif), load_image(png))
    np.testing.assert_array_equal(load_image(tif, size=(2, 4)), stored)
    check_image(tif, (2, 4))
    if orientation < 5:
        with pytest.raises(UserError, match="expected 2 x 4 px as annotated, got 4 x 2"):
            check_image(tif, (4, 2))
        with pytest.raises(UserError, match="expected 2 x 4 px as annotated, got 4 x 2"):
            load_image(tif, size=(4, 2))
    else:
        check_image(tif, (4, 2))
        np.testing.assert_array_equal(load_image(tif, size=(4, 2)), load_image(png, size=(4, 2)))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_data_that_are_damaged_say_nothing(tmp_path, name):
    path = save(Image.new("RGB", (4, 2), "red"), tmp_path / name, exif=b"Exif\0\0no data")
    assert read_size(path) == (2, 4)
    assert load_image(path).size == load_image(path, size=(2, 4)).size == (4, 2)
    check_image(path, (2, 4))


def test_broken_files_are_named(tmp_path):
    whole = save(Image.effect_noise((64, 64), 90), tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:900])
    save(Image.effect_noise((64, 64), 90), tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "cut.jpg", "text.png", "empty.png"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as an image"):
            load_image(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.png: no such image"):
        load_image(tmp_path / "none.png")


def test_images_are_found_in_folders_and_by_name(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.png", "b/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert find_images([tmp_path]).paths == [tmp_path / "b" / "a.JPG", tmp_path / "z.png"]
    assert find_images([tmp_path]).left_out == {".txt": 1}
    assert find_images([tmp_path / "notes.txt"]).paths == [tmp_path / "notes.txt"]
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "c.png").write_bytes(b"")
    assert find_images([tmp_path], leave_out=tmp_path / "folder.png").paths == [
        tmp_path / "b" / "a.JPG",
        tmp_path / "z.png",
    ]
    for around in (tmp_path, tmp_path.parent):  # pictures go there, or above
        assert len(find_images([tmp_path], leave_out=around).paths) == 3
    with pytest.raises(UserError, match="no such file or folder"):
        find_images([tmp_path / "none"])
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match=r"no image in .*void"):
        find_images([tmp_path / "void"])


@pytest.mark.parametrize("name", ["a.avif", "a.bmp", "a.gif", "a.jp2", "a.ppm", "a.tif", "a.webp"])
def test_the_usual_formats_are_read_and_found(tmp_path, name):
    Image.new("RGB", (40, 30), (250, 0, 0)).save(tmp_path / name)
    (path,) = find_images([tmp_path]).paths
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(image).mean(axis=(0, 1)) - (250, 0, 0)).max() < 6


@pytest.mark.parametrize("kind", ["EPS", "PDF", "DDS", "TGA"])
def test_other_formats_are_refused_whatever_their_ending(tmp_path, kind, monkeypatch):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 30), "red").save(path, format=kind)
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("started a program"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a program"))
    with pytest.raises(UserError, match=r"photo\.jpg: cannot be read as an image"):
        load_image(path)


@pytest.mark.parametrize(
    "error", [RuntimeError("corrupt"), NotImplementedError("odd"), KeyError(1)]
)
def test_whatever_a_decoder_raises_is_a_message(tmp_path, error, monkeypatch):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")

    def decode(*_):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    with pytest.raises(UserError, match=r"a\.png: cannot be read as an image"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_floats_beyond_every_scale_are_a_message(tmp_path, value):
    path = save(Image.fromarray(np.full((2, 3), value, np.float32)), tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: cannot be read .*finite values up to 65535"):
        load_image(path)


def bomb(path, side):
    """A PNG of some kilobytes with ``side`` x ``side`` black pixels."""
    Image.new("1", (side, side)).save(path)
    return path


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = bomb(tmp_path / "a.png", 300)
    message = r"a\.png: expected at most 1,000 pixels, got 300 x 300; .* raise max_pixels"
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("decoded"))
    for read in (load_image, lambda path, **limit: check_image(path, (300, 300), **limit)):
        with pytest.raises(UserError, match=message):
            read(path, max_pixels=1_000)


def test_the_limit_is_the_librarys_own_and_not_that_of_pillow(tmp_path):
    """Pillow warns at 89 million pixels and stops at twice as many."""
    check_image(bomb(tmp_path / "a.png", 14_000), (14_000, 14_000))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match="expected at most 200,000,000 pixels"):
        load_image(bomb(tmp_path / "b.png", 14_200))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_file_of_several_images_is_its_first(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        red = np.asarray(load_image(tmp_path / name))[0, 0]
        assert np.abs(red.astype(int) - (255, 0, 0)).max() < 6


def test_a_header_tells_what_loading_would(tmp_path):
    path = rotated(tmp_path / "a.jpg")
    for size in ((2, 4), (4, 2)):
        check_image(path, size)
        load_image(path, size)
    for size in ((2, 2), (9, 9)):
        with pytest.raises(UserError, match="px as annotated, got 4 x 2"):
            check_image(path, size)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match=r"text\.png: cannot be read as an image"):
        check_image(tmp_path / "text.png", (1, 1))
    with pytest.raises(UserError, match=r"none\.png: no such image"):
        check_image(tmp_path / "none.png", (1, 1))


def test_the_size_is_that_of_the_image_as_it_is_shown(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    path = save(Image.new("RGB", (30, 20)), tmp_path / "a.jpg", exif=turned)
    assert read_size(path) == (30, 20) == load_image(path).size[::-1]
    assert read_size(save(Image.new("RGB", (30, 20)), tmp_path / "b.png")) == (20, 30)
    (tmp_path / "c.png").write_text("text")
    with pytest.raises(UserError, match=r"c\.png: cannot be read as an image"):
        read_size(tmp_path / "c.png")
    with pytest.raises(UserError, match=r"no\.png: no such image"):
        read_size(tmp_path / "no.png")
