"""The kind of file system under a path, from the kernel's list of mounts."""

import pytest

from dctkd import file_systems
from dctkd.file_systems import is_network, kind_of_file_system


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Let the kernel list these mounts: (point, kind, source)."""

    def mount(*mounted):
        lines = [f"36 35 98:0 /r {point} rw,noatime master:1 - {kind} {source} rw" for point, kind, source in mounted]
        path = tmp_path / "mountinfo"
        path.write_text("\n".join(lines) + "\nnot a line of it\n")
        monkeypatch.setattr(file_systems, "MOUNTS", path)

    return mount


def test_the_innermost_mount_counts_also_for_what_is_not_there_yet(mounts, tmp_path):
    mounts(("/", "ext4", "/dev/vda"), (tmp_path / "home", "nfs4", "server:/x"), ("/h", "xfs", "/dev/b"))
    assert kind_of_file_system(tmp_path / "home/me/results") == ("nfs4", "server:/x")
    assert kind_of_file_system(tmp_path / "homes") == ("ext4", "/dev/vda")


def test_of_two_mounts_at_one_place_the_last_counts(mounts, tmp_path):
    mounts((tmp_path, "autofs", "map"), (tmp_path, "lustre", "10.0.0.1@tcp:/fs"))
    assert kind_of_file_system(tmp_path)[0] == "lustre"


def test_spaces_in_the_place_of_a_mount_are_read(mounts, tmp_path):
    mounts(("/", "ext4", "/dev/vda"), (f"{tmp_path}/my\\040data", "cifs", "//server/my\\040share"))
    assert kind_of_file_system(tmp_path / "my data/results") == ("cifs", "//server/my share")


def test_links_on_the_way_are_followed(mounts, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "far")
    mounts(("/", "ext4", "/dev/vda"), (tmp_path / "far", "beegfs", "beegfs_nodev"))
    assert kind_of_file_system(tmp_path / "results/store")[0] == "beegfs"


def test_where_the_kernel_does_not_tell_the_kind_is_unknown_and_local(tmp_path, monkeypatch):
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "nothing")
    assert not is_network(kind_of_file_system(tmp_path)[0])


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "fuse.sshfs", "fuse.ceph-fuse", "9p"]
)
def test_what_several_machines_mount_is_shared(kind):
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.overlayfs", ""])
def test_a_machine_s_own_disk_is_not_shared(kind):
    assert not is_network(kind)
