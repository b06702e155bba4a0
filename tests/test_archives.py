import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from dctkd import archives
from dctkd.archives import CHUNK_BYTES, UnsafeArchiveError, unpack
from dctkd.errors import InputError

ORDINARY = {"images/a/abbey/1.jpg": b"one", "images/b c+d/2.JPG": b"two", "list.txt": b"", "ü.jpg": b"three"}
ROOMY = 10**6


def tar_entry(name, *, kind=tarfile.REGTYPE, content=b"", linkname="", mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname, entry.mode = kind, len(content), linkname, mode
    return entry, io.BytesIO(content)


def write_tar(path, *entries, mode="w"):
    with tarfile.open(path, mode) as archive:
        for entry, content in entries:
            archive.addfile(entry, content)
    return path


def write_zip(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode[0] if mode else 0o644) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.fixture
def write(tmp_path):
    """Write files under names, in order, as one of the three kinds of archive."""

    def make(kind, *entries):
        if kind == "zip":
            return write_zip(tmp_path / "a.zip", *entries)
        plain = [tar_entry(name, content=content) for name, content in entries]
        return write_tar(tmp_path / "a.tar", *plain, mode="w:gz" if kind == "tar.gz" else "w")

    return make


@pytest.fixture
def target(tmp_path):
    return tmp_path / "root" / "dataset"


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(archive, target, **limits):
    """Return why an archive is refused, after a look for anything that it has left."""
    outside = {path for path in target.parent.parent.rglob("*") if path != archive}
    with pytest.raises(UnsafeArchiveError) as error:
        unpack(archive, target, **{"max_unpacked_bytes": ROOMY, **limits})
    left = {path for path in target.parent.parent.rglob("*") if path != archive} - outside - {target.parent}
    assert left == set()
    return str(error.value)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_ordinary_archive_unpacks_to_what_it_holds(write, target, kind):
    archive = write(kind, *ORDINARY.items())
    assert unpack(archive, target, max_unpacked_bytes=ROOMY) == len(ORDINARY)
    assert files(target) == ORDINARY
    assert names(target.parent) == ["dataset"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_folder_of_the_targets_name_is_not_doubled(write, target, kind):
    unpack(write(kind, ("dataset/a.jpg", b"a"), ("dataset/b/c.jpg", b"c")), target, max_unpacked_bytes=ROOMY)
    assert files(target) == {"a.jpg": b"a", "b/c.jpg": b"c"}


def test_content_and_not_the_name_decides_the_kind(tmp_path, write, target):
    archive = write("zip", ("a.jpg", b"a")).rename(tmp_path / "a.tar.gz")
    unpack(archive, target, max_unpacked_bytes=ROOMY)
    assert files(target) == {"a.jpg": b"a"}


def test_folders_may_be_named_often_and_by_a_dot(tmp_path, target):
    folders = [tar_entry(name, kind=tarfile.DIRTYPE) for name in (".", "./a", "a/", "a")]
    archive = write_tar(tmp_path / "a.tar", *folders, tar_entry("./a/1.jpg", content=b"1"))
    unpack(archive, target, max_unpacked_bytes=ROOMY)
    assert files(target) == {"a/1.jpg": b"1"}


def test_special_permissions_are_not_taken_over(tmp_path, target):
    archive = write_tar(
        tmp_path / "a.tar",
        tar_entry("folder", kind=tarfile.DIRTYPE, mode=0o7777),
        tar_entry("folder/a", content=b"a", mode=0o6777),
        tar_entry("locked", content=b"b", mode=0),
    )
    before = os.umask(0o022)
    try:
        unpack(archive, target, max_unpacked_bytes=ROOMY)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*")}
    assert modes == {"folder": 0o755, "a": 0o644, "locked": 0o644}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.jpg", "steps upwards"),
        ("images/../../outside.jpg", "steps upwards"),
        ("images/..", "steps upwards"),
        ("/tmp/outside.jpg", "absolute path"),
        ("//outside.jpg", "absolute path"),
        ("C:/outside.jpg", "drive letter"),
        ("images/c:outside.jpg", "drive letter"),
        ("..\\outside.jpg", "backslash"),
        ("line\nbreak.jpg", "control character"),
        ("n" * 256, "too long"),
        ("/".join(["folder"] * 40), "too long"),
        ("/".join(["f" * 200] * 6), "too long"),
    ],
)
def test_names_that_could_leave_the_target_are_refused(write, target, kind, name, reason):
    message = refused(write(kind, ("fine.jpg", b"fine"), (name, b"bad")), target)
    assert reason in message
    assert ascii(name[:200]) in message


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (b"D", "a special file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
    ],
)
def test_what_is_neither_file_nor_folder_is_refused_in_a_tar(tmp_path, target, kind, reason):
    archive = write_tar(
        tmp_path / "a.tar", tar_entry("1.jpg", content=b"1"), tar_entry("odd", kind=kind, linkname="1.jpg")
    )
    assert f"member 'odd' is {reason}" in refused(archive, target)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "FIFO"), (stat.S_IFCHR, "device"), (stat.S_IFSOCK, "socket")],
)
def test_what_is_neither_file_nor_folder_is_refused_in_a_zip(tmp_path, target, mode, reason):
    archive = write_zip(tmp_path / "a.zip", ("odd", b"/etc/passwd", mode | 0o777))
    assert f"member 'odd' is a {reason}" in refused(archive, target)


def test_a_file_behind_a_link_does_not_follow_it(tmp_path, target):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tar_entry("folder", kind=tarfile.SYMTYPE, linkname=str(outside))
    refused(write_tar(tmp_path / "a.tar", link, tar_entry("folder/x", content=b"x")), target)
    assert list(outside.iterdir()) == []


def test_a_name_with_a_nul_is_refused_in_a_zip(tmp_path, target):
    archive = write_zip(tmp_path / "a.zip", ("harmless_jpg", b"x"))
    archive.write_bytes(archive.read_bytes().replace(b"harmless_jpg", b"harmless\0jpg"))
    assert "control character" in refused(archive, target)


def test_an_encrypted_member_is_refused(tmp_path, target):
    archive = write_zip(tmp_path / "a.zip", ("secret.jpg", b"x"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # bit 0 of the flags in the central directory
    archive.write_bytes(content)
    assert "'secret.jpg' is encrypted" in refused(archive, target)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.jpg", "a.jpg"), "comes twice"),
        (("a.jpg", "./a.jpg"), "comes twice"),
        (("images/a.jpg", "images"), "as file and as folder"),
        (("images", "images/a.jpg"), "as file and as folder"),
        (("Images", "images/a.jpg"), "as file and as folder"),
        (("images/a.jpg", "IMAGES"), "as file and as folder"),
    ],
)
def test_names_that_fight_for_one_place_are_refused(write, target, kind, names, reason):
    assert reason in refused(write(kind, *((name, b"x") for name in names)), target)


def test_names_that_differ_in_case_alone_are_two_files(write, target):
    unpack(write("tar", ("a.jpg", b"1"), ("a.JPG", b"2")), target, max_unpacked_bytes=ROOMY)
    assert files(target) == {"a.jpg": b"1", "a.JPG": b"2"}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_twenty_times_the_archive_is_too_much_unless_it_is_allowed(write, target, kind):
    archive = write(kind, ("zeros", bytes(ROOMY)))
    assert archive.stat().st_size * 20 < ROOMY
    assert "bytes that are allowed" in refused(archive, target, max_unpacked_bytes=None)
    unpack(archive, target, max_unpacked_bytes=ROOMY)
    assert files(target) == {"zeros": bytes(ROOMY)}


def test_the_absolute_limit_holds_for_large_archives_too(write, target, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10)
    assert "the 10 bytes that are allowed" in refused(
        write("tar", ("eleven", b"x" * 11)), target, max_unpacked_bytes=None
    )


def test_many_small_files_count_together(write, target):
    message = refused(write("zip", *((f"{n}.jpg", b"x" * 100) for n in range(11))), target, max_unpacked_bytes=1000)
    assert "'10.jpg'" in message


def test_bytes_are_counted_as_they_are_written(write, target, monkeypatch):
    archive = write("zip", ("liar.jpg", b"x" * 500_000))
    honest = archives._Member.__init__

    def lie(self, name, kind, num_bytes, open):
        honest(self, name, kind, 10, open)

    monkeypatch.setattr(archives._Member, "__init__", lie)
    assert "'liar.jpg' unpacks to more" in refused(archive, target)


def test_a_size_that_is_too_much_is_refused_unread(tmp_path, target):
    entry, _ = tar_entry("huge.jpg")
    entry.size = 10**15
    (tmp_path / "a.tar").write_bytes(entry.tobuf())
    assert "'huge.jpg' unpacks to more" in refused(tmp_path / "a.tar", target)


def test_the_number_of_members_is_limited(write, target):
    archive = write("zip", *((f"{n}.jpg", b"x") for n in range(4)))
    assert "'3.jpg' is beyond the 3 members" in refused(archive, target, max_members=3)


def test_a_header_can_be_no_bomb(tmp_path, target):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry, content = tar_entry("a.jpg", content=b"x")
        entry.pax_headers = {"comment": "x" * (8 << 20)}
        archive.addfile(entry, content)
    with pytest.raises(InputError, match="longer than any"):
        unpack(tmp_path / "a.tar.gz", target, max_unpacked_bytes=ROOMY)
    assert names(target.parent) == []


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize(
    "damage", [cut, flip, lambda content: content[:600], lambda content: b"", lambda content: b"no"]
)
def test_a_damaged_archive_leaves_nothing(write, target, kind, damage):
    # A tar file has no checksum of contents, so its damage goes into a header.
    noise = os.urandom(1024) if kind != "tar" else b""
    archive = write(kind, *((f"{n}.jpg", noise) for n in range(20 if kind != "tar" else 37)))
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match="is damaged"):
        unpack(archive, target, max_unpacked_bytes=ROOMY)
    assert names(target.parent) == []


def test_the_checksum_at_the_end_of_a_gzip_file_is_looked_at(tmp_path, target):
    # The end of the tar file lies in an earlier piece than that of the gzip file.
    plain = write_tar(tmp_path / "a.tar", tar_entry("a.jpg", content=b"x")).read_bytes() + bytes(2 * CHUNK_BYTES)
    packed = bytearray(gzip.compress(plain))
    packed[-8] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(packed)
    with pytest.raises(InputError, match="CRC"):
        unpack(tmp_path / "a.tar.gz", target, max_unpacked_bytes=ROOMY)


def test_what_a_killed_process_left_is_cleared_away(write, target):
    left = target.parent / ".dataset.unpacking" / "old.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"old")
    unpack(write("tar", ("a.jpg", b"a")), target, max_unpacked_bytes=ROOMY)
    assert files(target.parent) == {"dataset/a.jpg": b"a"}


def test_a_target_that_exists_is_left_alone(write, target):
    target.mkdir(parents=True)
    (target / "mine").touch()
    with pytest.raises(InputError, match="exists already"):
        unpack(write("tar", ("a.jpg", b"a")), target, max_unpacked_bytes=ROOMY)
    assert names(target) == ["mine"]


def test_an_interrupt_leaves_nothing(write, target, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(write("tar", ("a.jpg", b"a")), target, max_unpacked_bytes=ROOMY)
    assert names(target.parent) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(write, target, monkeypatch):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_rename", refuse)
    with pytest.raises(InputError, match="No space left"):
        unpack(write("tar", ("a.jpg", b"a")), target, max_unpacked_bytes=ROOMY)
    assert names(target.parent) == []


def test_a_missing_archive_is_an_input_error(tmp_path, target):
    with pytest.raises(InputError, match="cannot be read"):
        unpack(tmp_path / "no.tar", target)
