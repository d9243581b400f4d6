"""What is followed out of a folder of data, and what is not."""

import os

import pytest
from PIL import Image

from nas_t2i.data.sources.common.parts import Rejected
from nas_t2i.data.sources.common.paths import find_files
from nas_t2i.data.sources.folder import folder_parts
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.images import ImageSet, Problem


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    for name in ("a", "b", "c", "d"):
        Image.linear_gradient("L").convert("RGB").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("caption")
    (folder / "b.txt").unlink()
    (folder / "b.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "c.png").rename(tmp_path / "c.png")
    (folder / "c.png").symlink_to(tmp_path / "c.png")
    (folder / "d.txt").unlink()
    (folder / "d.txt").symlink_to(folder / "a.txt")  # a link that stays inside is followed
    return folder


@pytest.mark.parametrize("listed", [False, True])
def test_a_link_out_of_an_image_folder_is_a_bad_sample(folder, listed):
    if listed:
        lines = "".join(f'{{"file_name": "{name}.png"}}\n' for name in "abcd")
        (folder / "metadata.jsonl").write_text(lines)
    (part,) = folder_parts(str(folder), "data.sources[0]")
    found = {sample.name if isinstance(sample, Rejected) else sample.key: sample
             for sample in part.samples()}  # fmt: skip
    bad = {name for name, sample in found.items() if isinstance(sample, Rejected)}
    assert bad == {"b.png", "c.png"}
    assert {found[name].reason for name in bad} == {"a symbolic link out of the folder"}
    assert found["d.png"].text is not None


def test_a_listing_that_leads_out_is_refused(folder, tmp_path):
    (folder / "metadata.jsonl").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ConfigError, match="a symbolic link out of the folder"):
        folder_parts(str(folder), "data.sources[0]")


def test_images_that_are_scored_follow_no_link_out_of_their_folder(folder):
    images = ImageSet.from_folder(folder)
    assert not isinstance(images.read("a"), Problem)
    problem = images.read("c")
    assert isinstance(problem, Problem) and "a symbolic link out of the folder" in problem.detail


@pytest.mark.parametrize("what", ["/dev/zero", "fifo", "link"])
def test_a_map_of_images_reads_regular_files_only(tmp_path, what):
    if what == "fifo":
        os.mkfifo(tmp_path / "fifo")
    elif what == "link":
        (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "map.json").write_text(f'{{"1": "{what}"}}')
    problem = ImageSet.from_map(tmp_path / "map.json").read("1")
    assert isinstance(problem, Problem) and "no regular file" in problem.detail


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "local:///etc/passwd",
        "simplecache::file:///etc/passwd",
        "zip://x.tar::/etc/a.zip",
        "dir://x::file:///etc",
        "reference://::file:///x.json",
    ],
)
def test_no_url_names_a_file_of_this_machine(url):
    with pytest.raises(ConfigError, match="names a file of this machine; expected a path"):
        find_files(url, "data.sources[0].urls")


def test_urls_of_other_machines_are_taken():
    for url in ("s3://b/0.tar", "https://h/0.tar", "simplecache::s3://b/0.tar"):
        assert find_files(url, "here") == [url]
