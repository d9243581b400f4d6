"""Images by prompt id: found, decoded, judged, and told apart by their pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.images import ImageSet, Problem, image_digest

NOISE = np.random.default_rng(0).integers(0, 256, (3, 12, 9, 3), dtype=np.uint8)


def test_a_map_names_files_relative_to_its_folder(tmp_path):
    Image.fromarray(NOISE[0]).save(tmp_path / "first.png")
    (tmp_path / "deeper").mkdir()
    Image.fromarray(NOISE[1]).save(tmp_path / "deeper" / "second.webp", lossless=True)
    file = tmp_path / "deeper" / "images.json"
    elsewhere = str(tmp_path / "first.png")
    file.write_text(json.dumps({"b": "../first.png", "a": "second.webp", "c": elsewhere}))
    images = ImageSet.from_map(file)
    assert images.ids == ["b", "a", "c"]
    assert np.array_equal(np.asarray(images.read("b")), NOISE[0])
    assert np.array_equal(np.asarray(images.read("a")), NOISE[1])
    assert images.digest("c") == images.digest("b") != images.digest("a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"m.json:1:1: got []; expected a map of prompt ids to image files"),
        ("{}", "m.json: no images in the map; expected one or more"),
        ('{"a": "x.png",\n "b": 3}', "m.json:2:7: b: got 3; expected text"),
        ('{"a": "x.png",\n "a": "y.png"}', "m.json:1:1: the key 'a' twice; expected each key once"),
        ('{"a": "x.png"', "m.json:1:14: not whole JSON (Expecting ',' delimiter)"),
        ('{"a": "x.png"}]', "m.json:1:15: not whole JSON (Extra data)"),
    ],
)
def test_a_bad_map_is_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        ImageSet.from_map("m.json")
    assert str(caught.value) == message


def test_a_folder_holds_images_named_by_id(tmp_path):
    Image.fromarray(NOISE[0]).save(tmp_path / "coco_2.png")
    Image.fromarray(NOISE[1]).save(tmp_path / "a.b.JPG", format="JPEG")
    (tmp_path / "notes.txt").write_text("no image")
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ["a.b", "coco_2"]
    assert np.array_equal(np.asarray(images.read("coco_2")), NOISE[0])
    assert isinstance(images.read("a.b"), Image.Image)


def test_a_bad_folder_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no images; expected files named ID"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(ConfigError, match="can't be read: No such file or directory"):
        ImageSet.from_folder(tmp_path / "none")
    for name in ("x.png", "x.webp"):
        Image.fromarray(NOISE[0]).save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"x\.webp: x\.png has the same id; expected one an id"):
        ImageSet.from_folder(tmp_path)


def test_images_from_memory():
    images = ImageSet.from_arrays(["a", "b", "c"], NOISE)
    assert images.ids == ["a", "b", "c"]
    assert np.array_equal(np.asarray(images.read("c")), NOISE[2])
    for ids, arrays in (
        (["a", "b"], NOISE),
        (["a", "a", "b"], NOISE),
        (["a", "b", "c"], NOISE.astype(np.float32)),
        (["a", "b", "c"], NOISE[..., 0]),
    ):
        with pytest.raises(ValueError, match="images"):
            ImageSet.from_arrays(ids, arrays)


def test_every_problem_has_a_reason_and_is_counted_once(tmp_path):
    Image.fromarray(NOISE[0]).save(tmp_path / "good.png")
    Image.fromarray(NOISE[0][:5]).save(tmp_path / "small.png")
    Image.new("RGB", (9, 12), (7, 7, 7)).save(tmp_path / "blank.png")
    cut = (tmp_path / "good.png").read_bytes()[:-40]
    (tmp_path / "cut.png").write_bytes(cut)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    names = ["good", "small", "blank", "cut", "text", "empty", "folder", "gone"]
    file = tmp_path / "m.json"
    file.write_text(json.dumps({name: f"{name}.png" for name in names} | {"odd": "a\0b"}))
    images = ImageSet.from_map(file, size=(9, 12))
    assert isinstance(images.read("good"), Image.Image)
    for _ in range(2):
        found = {name: images.read(name) for name in [*names[1:], "odd", "unheard of"]}
        assert {name: problem.reason for name, problem in found.items()} == {
            "small": "wrong size",
            "blank": "blank",
            "cut": "unreadable",
            "text": "unreadable",
            "empty": "unreadable",
            "folder": "unreadable",
            "gone": "missing",
            "odd": "unreadable",
            "unheard of": "missing",
        }
        assert images.problems == found
    assert found["small"] == Problem("wrong size", "9x5 pixels, not 9x12")
    assert found["blank"].detail == "all pixels are (7, 7, 7)"
    with pytest.raises(ValueError, match="image 'gone' is missing"):
        images.digest("gone")


def test_a_huge_image_is_refused_by_its_header(tmp_path):
    Image.new("1", (40_000, 2000)).save(tmp_path / "huge.png")
    images = ImageSet.from_folder(tmp_path)
    assert images.read("huge") == Problem("unreadable", "image over max_pixels")


def test_a_blank_image_may_count():
    grey = np.full((1, 4, 4, 3), 128, dtype=np.uint8)
    strict, lenient = (ImageSet.from_arrays(["a"], grey, blank_counts=b) for b in (False, True))
    assert strict.read("a") == Problem("blank", "all pixels are (128, 128, 128)")
    assert isinstance(lenient.read("a"), Image.Image)
    assert strict.provenance.rule != lenient.provenance.rule


def test_a_digest_is_of_pixels_and_not_of_files(tmp_path):
    image = Image.fromarray(NOISE[0])
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", compress_level=0)
    image.save(tmp_path / "c.webp", lossless=True)
    image.convert("RGBA").save(tmp_path / "d.png")
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 270 degrees
    turned.save(tmp_path / "e.png", exif=exif)
    images = ImageSet.from_folder(tmp_path)
    assert {images.digest(name) for name in images.ids} == {image_digest(image)}


def test_a_digest_knows_pixels_and_shape():
    other = NOISE[0].copy()
    other[3, 4, 1] ^= 1
    shapes = [NOISE[0], other, NOISE[0].transpose(1, 0, 2), NOISE[0].reshape(9, 12, 3)]
    assert len({image_digest(Image.fromarray(np.ascontiguousarray(s))) for s in shapes}) == 4
    # Answers are kept for years under this key.
    ramp = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert image_digest(Image.fromarray(ramp)) == "d157923886b2492bf769"
