"""Tar shards, good and broken ones, as real files."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.sources.common.parts import Extent, Rejected, Sample
from nas_t2i.data.sources.shards import CUT, ShardPart
from nas_t2i.errors import ConfigError
from tests.data.shard_maker import make_image, pair, write_shard


def found(path: Path) -> list[Sample | Rejected]:
    return list(ShardPart(str(path)).samples())


def keys(path: Path) -> list[str]:
    return [sample.key for sample in found(path) if isinstance(sample, Sample)]


def rejected(path: Path) -> list[tuple[str, str]]:
    return [tuple(sample) for sample in found(path) if isinstance(sample, Rejected)]


def test_members_are_read_where_they_lie(tmp_path: Path) -> None:
    samples = [pair(number, metadata={"n": number}) for number in range(3)]
    part = ShardPart(str(write_shard(tmp_path / "a.tar", samples)))
    for (key, members), sample in zip(samples, part.samples(), strict=True):
        assert isinstance(sample, Sample)
        assert sample.key == key
        assert part.read("image", key, sample.image) == members["png"]
        assert part.read("text", key, sample.text) == members["txt"]
        assert part.read("metadata", key, sample.metadata) == members["json"]
        assert part.image(key, sample.image, 8, 10**6).shape == (3, 8, 8)


def test_keys_end_at_the_first_dot_and_suffixes_have_any_case(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "a.tar",
        [
            ("in/a.b/000", {"JPG": b"1", "txt": b""}),
            ("x", {"cls.txt": b"not the text", "webp": b"2"}),
            ("y", {"jpeg": b"3", "png": b"the first image counts"}),
        ],
    )
    samples = {sample.key: sample for sample in found(shard)}
    assert list(samples) == ["in/a.b/000", "x", "y"]
    assert samples["x"].text is None
    assert samples["y"].image.size == 1


def test_other_members_are_ignored(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    members = {"pkl": pickle.dumps(Bomb()), "pyd": b"", "pickle": pickle.dumps(Bomb())}
    shard = tmp_path / "a.tar"
    write_shard(shard, [("lone", members), ("0", members | {"png": make_image(0), "txt": b"x"})])
    with tarfile.open(shard, "a") as tar:
        for kind, name in ((tarfile.SYMTYPE, "l.jpg"), (tarfile.LNKTYPE, "h.jpg")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert keys(shard) == ["0"]
    assert rejected(shard) == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../up", "/etc/abs", "a/../../b"])
def test_unsafe_names_are_bad(tmp_path: Path, name: str) -> None:
    shard = write_shard(tmp_path / "a.tar", [(name, {"png": b"x", "txt": b"x"}), pair(1)])
    assert keys(shard) == ["000000001"]
    assert rejected(shard) == [(name, "unsafe name")]


def test_a_sample_without_a_image_is_bad(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [("0", {"txt": b"x", "json": b"{}"})])
    assert rejected(shard) == [("0", "no image")]


@pytest.mark.parametrize(
    "content,reason", [(b"", "empty file"), (b"<html>404</html>" * 100, "no tar file")]
)
def test_a_file_that_is_no_tar_is_one_bad_sample(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert found(tmp_path / "a.tar") == [Rejected("a.tar", reason)]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as tar:
        tar.addfile(tarfile.TarInfo("x.jpg"))
    with pytest.raises(ConfigError, match=r"a.tar: compressed with .*; expected a plain .tar"):
        found(tmp_path / "a.tar")


def test_a_cut_tar_keeps_what_is_before_the_cut(tmp_path: Path) -> None:
    """Cut at every 64 bytes: each sample before the cut is whole, one is bad, nothing crashes."""
    samples = [pair(number, metadata={}) for number in range(3)]
    whole = write_shard(tmp_path / "whole.tar", samples).read_bytes()
    ends = [
        max(extent.offset + extent.size for extent in sample[1:])
        for sample in found(tmp_path / "whole.tar")
    ]
    cut = tmp_path / "cut.tar"
    for size in range(64, ends[-1], 64):
        cut.write_bytes(whole[:size])
        before = sum(end <= size for end in ends)
        good = keys(cut)
        assert good[:before] == [key for key, _ in samples[:before]]
        # A cut in the header of a later member leaves a sample that only lacks that member.
        assert len(good) <= before + 1
        assert len(rejected(cut)) == 1
        assert rejected(cut)[0][1] in (CUT, "no tar file")


def test_a_broken_header_in_the_middle_ends_the_tar(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [pair(0), pair(1)])
    content = bytearray(shard.read_bytes())
    second = content.index(b"000000001.png")
    content[second : second + 512] = b"\xff" * 512
    shard.write_bytes(content)
    assert keys(shard) == ["000000000"]
    assert rejected(shard) == [("a.tar", CUT)]


@pytest.mark.parametrize("size", [-512, -1024, -(2**40)])
def test_a_negative_size_does_not_loop(tmp_path: Path, size: int) -> None:
    shard = write_shard(tmp_path / "a.tar", [pair(0)])
    header = bytearray(tarfile.TarInfo("1.jpg").tobuf())
    header[124:136] = b"\xff" + (size % 256**11).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    content = shard.read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512)
    shard.write_bytes(content + header + bytes(1024))
    assert keys(shard) == ["000000000"]
    assert rejected(shard) == [("a.tar", CUT)]


def test_a_changed_shard_is_another_part(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [("0", {"png": b"old"})])
    old = ShardPart(str(shard))
    (sample,) = old.samples()
    assert old.read("image", "0", sample.image) == b"old"
    (tmp_path / "new.tar").write_bytes(b"")
    write_shard(tmp_path / "new.tar", [("0", {"png": b"new"})]).replace(shard)
    new = ShardPart(str(shard))
    assert new.identity != old.identity
    assert new.read("image", "0", sample.image) == b"new"


def test_what_can_not_be_read_later_is_a_bad_sample(tmp_path: Path) -> None:
    part = ShardPart(str(write_shard(tmp_path / "a.tar", [pair(0)])))
    with pytest.raises(BadSampleError, match="file cut short"):
        part.read("image", "0", Extent(0, 10**6))
    (tmp_path / "a.tar").unlink()
    other = ShardPart.__new__(ShardPart)
    other.__dict__.update(part.__dict__, identity="not yet open")
    with pytest.raises(BadSampleError, match="can't be read: No such file"):
        other.read("image", "0", Extent(0, 10))


def test_img2dataset_shards_are_read_back(tmp_path: Path) -> None:
    pytest.importorskip("img2dataset")
    from nas_t2i.data.index.pairs import open_index
    from tests.data.shard_maker import img2dataset_shards, pairs_data, pixels

    images = tmp_path / "images"
    images.mkdir()
    captions = {}
    for number in range(6):
        kind = "JPEG" if number % 2 else "PNG"
        name = f"{number}.{kind.lower()}"
        (images / name).write_bytes(make_image(number, (90, 60), kind))
        captions[name] = f"image number {number}"
    captions["gone.png"] = "never served"
    (images / "page.png").write_bytes(b"<html>not an image</html>")
    captions["page.png"] = "no image"
    shards = img2dataset_shards(
        tmp_path / "made", captions, images=images, image_size=48, samples_per_shard=5
    )
    assert len(shards) == 2
    lines: list[str] = []
    data = pairs_data(tmp_path / "made/shards/*.tar", resolution=32, bad_share=0)
    index = open_index(data, tmp_path / "index", lines.append)
    assert len(index) == 6
    assert index.report.bad == {}
    for row in range(len(index)):
        text = index.captions[index.caption_row(row, 0.0, 0.0)]
        number = int(text.removeprefix("image number "))
        assert index.metadata(row)["caption"] == text
        assert index.metadata(row)["width"] == 72  # the shorter side became 48
        middle = pixels(number, (90, 60))[:, 15:75]
        from PIL import Image

        expected = np.asarray(Image.fromarray(middle).resize((32, 32))).transpose(2, 0, 1)
        assert np.abs(index.image(row).astype(float) - expected).mean() < 4
