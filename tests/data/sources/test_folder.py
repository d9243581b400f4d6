"""Folders of images with their captions."""

import json
import os
from pathlib import Path

import pytest

from nas_t2i.data.index.scan import read_metadata
from nas_t2i.data.sources import folder as folder_module
from nas_t2i.data.sources.common.parts import Part, Rejected, Sample
from nas_t2i.data.sources.folder import FolderSource
from nas_t2i.errors import ConfigError
from tests.data.shard_maker import make_image


def parts_of(folder: Path) -> list[Part]:
    return FolderSource(source="folder", path=str(folder)).parts("data.sources[0]")


def found(folder: Path) -> list[Sample | Rejected]:
    return [sample for part in parts_of(folder) for sample in part.samples()]


def metadata(folder: Path) -> dict[str, dict[str, object]]:
    return {
        sample.key: read_metadata(part, sample)
        for part in parts_of(folder)
        for sample in part.samples()
        if isinstance(sample, Sample)
    }


def test_files_beside_a_image_are_its_text_and_metadata(tmp_path: Path) -> None:
    (tmp_path / "in.ner").mkdir()
    (tmp_path / "b.PNG").write_bytes(make_image(1))
    (tmp_path / "b.txt").write_text("bé")
    (tmp_path / "in.ner/a.b.jpg").write_bytes(make_image(2, kind="JPEG"))
    (tmp_path / "in.ner/a.b.json").write_text('{"score": 5}')
    (tmp_path / "notes.pdf").write_bytes(b"")
    assert metadata(tmp_path) == {"b.PNG": {"txt": "bé"}, "in.ner/a.b.jpg": {"score": 5}}
    part = parts_of(tmp_path)[0]
    (first, _) = part.samples()
    assert part.read("image", "b.PNG", first.image) == make_image(1)


def test_a_listing_names_images_and_gives_their_metadata(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "unlisted.png"):
        (tmp_path / name).write_bytes(make_image(0))
    (tmp_path / "a.txt").write_text("beside")
    lines = [
        json.dumps({"file_name": "b.png", "text": "two"}),
        "",
        json.dumps({"file_name": "./a.png", "text": "one"}),
        "{broken",
        json.dumps(["no object"]),
        json.dumps({"text": "no name"}),
        json.dumps({"file_name": "../a.png"}),
        json.dumps({"file_name": str(tmp_path / "a.png")}),
        json.dumps({"file_name": "missing.png"}),
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert metadata(tmp_path) == {
        "b.png": {"file_name": "b.png", "text": "two"},
        "a.png": {"file_name": "./a.png", "text": "one", "txt": "beside"},
    }
    assert [sample.reason for sample in found(tmp_path) if isinstance(sample, Rejected)] == [
        "broken json",
        "no file_name",
        "no file_name",
        "unsafe name",
        "unsafe name",
        "no such file",
    ]


@pytest.mark.parametrize("stretch", [1, 7, 40, 41, 1000])
def test_every_line_is_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    (tmp_path / "a.png").write_bytes(make_image(0))
    lines = [json.dumps({"file_name": "a.png", "n": "x" * number}) for number in range(20)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(folder_module, "_LINES", stretch)
    sizes = [
        len(read_metadata(part, sample)["n"])
        for part in parts_of(tmp_path)
        for sample in part.samples()
        if isinstance(sample, Sample)
    ]
    assert sizes == list(range(20))


def test_a_folder_comes_in_pieces_in_the_order_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    monkeypatch.setattr(folder_module, "_IMAGES", 3)
    parts = parts_of(tmp_path)
    assert [len(list(part.samples())) for part in parts] == [3, 3, 1]
    assert [sample.key for sample in found(tmp_path)] == [f"{number}.png" for number in range(7)]
    assert len({part.identity for part in parts}) == 3


def test_any_change_of_a_file_changes_the_identity(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("old")
    before = parts_of(tmp_path)[0].identity
    assert parts_of(tmp_path)[0].identity == before
    (tmp_path / "a.txt").write_text("new")
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    assert parts_of(tmp_path)[0].identity != before


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.sources\[0\].path: .*/none: no such folder"):
        parts_of(tmp_path / "none")
    with pytest.raises(ConfigError, match="has no images; expected"):
        parts_of(tmp_path)
