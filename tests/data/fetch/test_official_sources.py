import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml

from dctkd.data.fetch.official_sources import OFFICIAL_SOURCES, OfficialFile, get_source
from dctkd.data.formats import FORMATS
from dctkd.errors import InputError

FILES = [(name, file) for name, source in OFFICIAL_SOURCES.items() for file in source.files]
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64}

each_file = pytest.mark.parametrize(("name", "file"), FILES, ids=[f"{name}-{file.name}" for name, file in FILES])
each_source = pytest.mark.parametrize("name", OFFICIAL_SOURCES)


@each_source
def test_every_source_is_that_of_a_format_of_photographs(name):
    assert FORMATS[name].kind == "photographs"


@each_file
def test_addresses_are_on_http_and_end_in_the_files_name(name, file):
    parts = [urlsplit(url) for url in file.urls]
    assert {part.scheme for part in parts} <= {"http", "https"}
    assert {PurePosixPath(part.path).name for part in parts} == {file.name}


@each_file
def test_checksums_have_the_length_of_their_hash_and_an_origin(name, file):
    if file.checksum is None:
        assert file.is_size_exact
    else:
        assert re.fullmatch(rf"[0-9a-f]{{{DIGITS[file.checksum.algorithm]}}}", file.checksum.digest)
        assert file.checksum.origin


@each_file
def test_everything_lands_in_the_folder_of_its_source(name, file):
    folder = OFFICIAL_SOURCES[name].folder
    for path in (file.lands_at, *file.proofs):
        assert PurePosixPath(path).is_relative_to(folder)
        assert ".." not in PurePosixPath(path).parts


@each_file
def test_archives_may_unpack_to_a_few_times_their_size_and_no_more(name, file):
    if file.is_archive:
        assert 2 < file.max_unpacked_bytes / file.expected_bytes <= 20


@each_source
def test_the_experiment_file_finds_the_folder_below_its_data_root(name):
    config = yaml.safe_load((Path(__file__).parents[3] / "config" / f"{name}.yaml").read_text())
    [dataset] = [dataset for dataset in config["datasets"].values() if dataset["format"] == name]
    source = get_source(name)
    assert PurePosixPath(source.data_root, dataset.get("root", ".")) == PurePosixPath(source.folder)


@pytest.mark.parametrize(("name", "date"), [("mit67", "404 on 2026-09-30"), ("sun397", "404 on 2026-06-25")])
def test_archives_known_to_be_gone_say_so_with_a_date(name, date):
    assert date in get_source(name).files[0].known_state


def test_an_unknown_dataset_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'mit67'"):
        get_source("mit76")


def test_a_file_without_checksum_says_how_little_is_checked():
    assert "no checksum is known" in OfficialFile("a", (), "a", 1).how_checked
