import functools
import hashlib
import http.server
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dctkd.data import fetch as fetch_module
from dctkd.data.fetch import FetchError, fetch, official_sources
from dctkd.data.fetch.official_sources import Checksum, get_source
from dctkd.data.fetch.transfer import Patience
from dctkd.data.formats import FORMATS
from dctkd.errors import InputError

QUICK = Patience(timeout_s=2.0, num_tries=2, first_pause_s=0.0)
JPEG = b"\xff\xd8 not decoded here " * 8
CONTENT = {
    "ade20k": {
        "ADEChallengeData2016.zip": {
            "ADEChallengeData2016/images/training/ADE_train_00000001.jpg": JPEG,
            "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg": JPEG,
            "ADEChallengeData2016/sceneCategories.txt": b"ADE_train_00000001 bathroom\nADE_val_00000001 bathroom\n",
        }
    },
    "mit67": {
        "indoorCVPR_09.tar": {"Images/airport_inside/b 1.jpg": JPEG, "Images/gym/g1.jpg": JPEG},
        "TrainImages.txt": b"airport_inside/b 1.jpg\n",
        "TestImages.txt": b"gym/g1.jpg\n",
    },
    "miniplaces": {
        "data.tar.gz": {"images/train/a/abbey/00000001.jpg": JPEG, "images/val/00000001.jpg": JPEG},
        "train.txt": b"train/a/abbey/00000001.jpg 0\n",
        "val.txt": b"val/00000001.jpg 0\n",
        "categories.txt": b"/a/abbey 0\n",
        "object_categories.txt": b"armchair 0\n",
    },
    "sun397": {
        "SUN397.tar.gz": {"SUN397/a/abbey/sun_a.jpg": JPEG, "SUN397/a/abbey/sun_b.jpg": JPEG},
        "Partitions.zip": {
            "ClassName.txt": b"/a/abbey\n",
            "Training_01.txt": b"/a/abbey/sun_a.jpg\n",
            "Testing_01.txt": b"/a/abbey/sun_b.jpg\n",
        },
    },
}
NAMES = sorted(CONTENT)


def write_official(path, content):
    """Write a list, or the archive that a name asks for."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        folder = path.parent / f"of {path.name}"
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for child in sorted(folder.iterdir()):
                archive.add(child, child.name)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def shelf(tmp_path):
    """Folder of official files, `<name>/<file>`."""
    for name, contents in CONTENT.items():
        (tmp_path / "shelf" / name).mkdir(parents=True)
        for file, content in contents.items():
            write_official(tmp_path / "shelf" / name / file, content)
    return tmp_path / "shelf"


@pytest.fixture
def server(shelf, monkeypatch):
    """Serve the shelf in place of the official addresses, with checksums to match."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Quiet, directory=str(shelf))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        base = f"http://127.0.0.1:{server.server_port}"
        table = {name: stand_in(name, base, shelf) for name in NAMES}
        monkeypatch.setattr(official_sources, "OFFICIAL_SOURCES", table)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def stand_in(name, base, shelf):
    source, files = official_sources.OFFICIAL_SOURCES[name], []
    for file in source.files:
        content = (shelf / name / file.name).read_bytes()
        checksum = file.checksum and Checksum("md5", hashlib.md5(content).hexdigest(), "this test")
        urls = (f"{base}/{name}/{file.name}", f"{base}/mirror/{file.name}")
        files.append(replace(file, urls=urls, checksum=checksum, expected_bytes=len(content)))
    return replace(source, files=tuple(files))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data root"


@pytest.fixture
def told():
    return []


@pytest.fixture
def get(root, told):
    return lambda name, **options: fetch(name, root, tell=told.append, patience=QUICK, **options)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def change(path):
    path.write_bytes(b"\0" + path.read_bytes()[1:])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fetched_is_what_the_format_reads(server, root, get, name):
    get(name)
    manifest = FORMATS[name].read_manifest(root / get_source(name).folder, FORMATS[name].options_type())
    assert {entry.split for entry in manifest.entries} == {"train", "test"}
    assert [problem for problem in manifest.problems if problem.kind == "missing"] == []


def test_all_datasets_share_one_root(server, root, get, leftovers):
    for name in NAMES:
        get(name)
    assert leftovers(root) == ["ADEChallengeData2016", "MIT67", "SUN397", "downloads", "miniplaces"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_place_is_not_fetched_again(server, get, told, name):
    get(name)
    server.asked.clear()
    get(name)
    assert server.asked == []
    assert "nothing is fetched" in told[-1]


def test_the_next_commands_name_folder_and_experiment(server, root, get):
    assert get("mit67") == [
        f"next: dctkd data check mit67 --root {root}/MIT67",
        f"then: snakemake --cores all --configfile config/mit67.yaml --config data_root={root}",
    ]


@pytest.mark.parametrize("place", ["downloads/sun397", "."])
def test_an_archive_that_lies_in_the_root_is_used(server, shelf, root, get, place):
    (root / place).mkdir(parents=True)
    (shelf / "sun397" / "SUN397.tar.gz").rename(root / place / "SUN397.tar.gz")
    get("sun397")
    assert "SUN397/a/abbey/sun_a.jpg" in files(root)
    assert server.asked == ["/sun397/Partitions.zip"]


def test_files_and_folders_that_are_given_are_used_where_they_lie(server, shelf, root, get):
    get("sun397", given=[shelf / "sun397"])
    get("mit67", given=[shelf / "mit67" / name for name in CONTENT["mit67"]])
    assert server.asked == []
    assert not (root / "downloads").exists()
    assert {"SUN397/Partitions/ClassName.txt", "MIT67/TrainImages.txt"} < files(root)


def test_a_file_under_another_name_is_not_guessed_at(server, shelf, get):
    with pytest.raises(InputError, match=r"expected an official file, or a folder with some: SUN397.tar.gz"):
        get("sun397", given=[shelf / "mit67" / "indoorCVPR_09.tar"])


def test_a_given_file_with_a_wrong_checksum_is_refused_and_kept(server, shelf, root, get):
    given = shelf / "sun397" / "SUN397.tar.gz"
    right = hashlib.md5(given.read_bytes()).hexdigest()
    change(given)
    with pytest.raises(InputError, match=f"{right}.*{hashlib.md5(given.read_bytes()).hexdigest()}"):
        get("sun397", given=[given])
    assert given.exists()
    assert files(root) == set()


def test_an_altered_list_in_place_is_refused(server, root, get):
    get("mit67")
    change(root / "MIT67" / "TrainImages.txt")
    with pytest.raises(InputError, match=r"TrainImages.txt: is not the official list"):
        get("mit67")


def test_images_of_the_users_own_need_only_the_lists(server, root, get):
    (root / "MIT67" / "Images" / "airport_inside").mkdir(parents=True)
    get("mit67")
    assert server.asked == ["/mit67/TrainImages.txt", "/mit67/TestImages.txt"]


def test_lists_beside_the_letters_count_as_unpacked(server, root, get):
    (root / "SUN397" / "a" / "abbey").mkdir(parents=True)
    (root / "SUN397" / "Training_01.txt").touch()
    get("sun397")
    assert server.asked == []


def test_a_folder_without_what_it_should_hold_is_not_overwritten(server, root, get):
    (root / "SUN397").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no a/abbey"):
        get("sun397")


def test_a_source_that_is_gone_tells_what_was_tried_and_what_to_do(server, shelf, root, get):
    (shelf / "sun397" / "SUN397.tar.gz").unlink()
    with pytest.raises(FetchError) as error:
        get("sun397")
    first, *rest = str(error.value).splitlines()
    archive = get_source("sun397").files[0]
    assert first.startswith("sun397: 1 of its official files cannot be had")
    assert "404 on 2026-06-25" in rest[0]
    assert rest[1:3] == [f"    tried {url}: HTTP 404 File not found" for url in archive.urls]
    assert rest[3].startswith(f"    put it at {root}/downloads/sun397/SUN397.tar.gz; checked by md5")
    assert archive.checksum.digest in rest[3]
    assert f"{root}/SUN397;" in rest[4]


def test_what_can_be_had_is_kept_when_the_rest_is_gone(server, shelf, root, get):
    (shelf / "mit67" / "indoorCVPR_09.tar").unlink()
    with pytest.raises(FetchError):
        get("mit67")
    assert files(root) == {"downloads/mit67/TrainImages.txt", "downloads/mit67/TestImages.txt"}


def test_following_the_advice_mends_it(server, shelf, root, get):
    archive = shelf / "mit67" / "indoorCVPR_09.tar"
    hidden = archive.rename(shelf / "hidden")
    with pytest.raises(FetchError):
        get("mit67")
    server.asked.clear()
    hidden.rename(root / "downloads" / "mit67" / "indoorCVPR_09.tar")
    get("mit67")
    assert server.asked == []
    assert "MIT67/Images/gym/g1.jpg" in files(root)


def test_an_archive_without_what_it_should_hold_is_named(server, shelf, get):
    source = get_source("ade20k")
    official_sources.OFFICIAL_SOURCES["ade20k"] = replace(
        source, files=(replace(source.files[0], proofs=("ADEChallengeData2016/pictures",)),)
    )
    with pytest.raises(InputError, match="pictures is not there"):
        get("ade20k")


def test_too_small_a_disk_is_told_before_anything_is_fetched(server, get, monkeypatch):
    usage = fetch_module.shutil.disk_usage
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: usage(path)._replace(free=100))
    with pytest.raises(InputError, match="make space"):
        get("mit67")
    assert server.asked == []


def test_a_list_without_checksum_is_said_to_have_none(server, get, told):
    get("miniplaces")
    assert "train.txt: no checksum is known; only its size was checked" in told


def test_two_processes_do_not_fetch_to_one_root(server, root, get):
    root.mkdir()
    code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match="another process"):
            get("mit67")
        other.stdin.close()


def test_a_root_that_is_a_file_is_an_input_error(root, get):
    root.touch()
    with pytest.raises(InputError, match="cannot be used as a folder"):
        get("mit67")


def test_the_command_exits_with_status_2_and_one_error(tmp_path):
    command = [sys.executable, "-c", "from dctkd.cli import main; main()", "data", "fetch", "mit76"]
    done = subprocess.run([*command, "--root", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: no official files are known for 'mit76'; did you mean 'mit67'?\n"


def test_nothing_but_the_command_line_imports_fetch():
    own = Path(fetch_module.__file__).parent
    others = (path for path in own.parents[1].rglob("*.py") if own not in path.parents)
    # The doctor reads the table of sources, to name the command that fetches.
    texts = {path.name: path.read_text().replace("dctkd.data.fetch.official_sources", "") for path in others}
    assert {name for name, text in texts.items() if "dctkd.data.fetch" in text} == {"cli.py"}
