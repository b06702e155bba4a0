import pytest

from dctkd.data.formats.imagefolder import Options, read_manifest
from dctkd.data.manifest import Entry
from dctkd.errors import InputError


@pytest.fixture
def root(tmp_path, save_photograph):
    for number, name in enumerate(["cat/b.jpg", "cat/a b+c.JPEG", "dog/1.png", "dog/deep/2.bmp"]):
        save_photograph(tmp_path / "data/train" / name, number)
    for number, name in enumerate(["cat/x.jpg", "dog/y.jpg"]):
        save_photograph(tmp_path / "data/val" / name, 10 + number)
    return tmp_path / "data"


def test_classes_are_folders_in_alphabetical_order(root):
    manifest = read_manifest(root, Options())
    assert manifest.classes == ("cat", "dog")
    assert manifest.problems == ()
    assert manifest.entries == (
        Entry("train/cat/a b+c.JPEG", "train/cat/a b+c.JPEG", 0, "train"),
        Entry("train/cat/b.jpg", "train/cat/b.jpg", 0, "train"),
        Entry("train/dog/1.png", "train/dog/1.png", 1, "train"),
        Entry("train/dog/deep/2.bmp", "train/dog/deep/2.bmp", 1, "train"),
        Entry("test/cat/x.jpg", "val/cat/x.jpg", 0, "test"),
        Entry("test/dog/y.jpg", "val/dog/y.jpg", 1, "test"),
    )


def test_one_level_deeper_gives_the_same_entries(tmp_path, root):
    assert read_manifest(tmp_path, Options()).entries == read_manifest(root, Options()).entries


def test_linked_class_folders_are_followed(tmp_path, root):
    expected = read_manifest(root, Options()).entries
    (root / "train/dog").rename(tmp_path / "elsewhere")
    (root / "train/dog").symlink_to(tmp_path / "elsewhere")
    assert read_manifest(root, Options()).entries == expected


def test_other_files_are_listed_for_information(root):
    for name in ("train/readme.txt", "train/cat/notes.md", "train/stray.jpg", "train/.hidden.jpg"):
        (root / name).write_text("x")
    (root / "train/.ipynb_checkpoints").mkdir()
    manifest = read_manifest(root, Options())
    assert [(problem.kind, problem.where) for problem in manifest.problems] == [
        ("unlisted", "train/cat/notes.md"),
        ("unlisted", "train/readme.txt"),
        ("unlisted", "train/stray.jpg"),
    ]
    assert len(manifest.entries) == 6


def test_an_empty_class_is_listed(root):
    (root / "train/bird").mkdir()
    found = [(problem.kind, problem.where) for problem in read_manifest(root, Options()).problems]
    assert found == [("empty_class", "class bird"), ("untested_class", "class bird")]


def test_two_test_folders_are_ambiguous_until_one_is_chosen(root, save_photograph):
    save_photograph(root / "test/cat/z.jpg", 20)
    with pytest.raises(InputError, match=r"holds both test and val; choose one by options\.test_folder"):
        read_manifest(root, Options())
    manifest = read_manifest(root, Options(test_folder="test"))
    assert [entry.id for entry in manifest.split("test")] == ["test/cat/z.jpg"]


def test_a_missing_test_folder_is_an_error(root):
    (root / "val").rename(root / "holdout")
    with pytest.raises(InputError, match="expected the folder test or val beside train"):
        read_manifest(root, Options())
    assert len(read_manifest(root, Options(test_folder="holdout")).split("test")) == 2


@pytest.mark.parametrize("name", ["../val", "/etc", ".hidden", ""])
def test_the_test_folder_must_be_a_plain_name(name):
    with pytest.raises(ValueError, match="test_folder"):
        Options(test_folder=name)


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(InputError, match="does not exist; expected there"):
        read_manifest(tmp_path / "nowhere", Options())


def test_a_train_folder_without_classes_is_an_error(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match="expected one folder per class, found none"):
        read_manifest(tmp_path, Options())
