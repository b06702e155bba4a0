"""Where the official files of the datasets come from, how they are checked, what they unpack to: facts, no network.

Few of these files have a checksum that their authors published; each one says whose record it is. An address that is
known to be dead stays in the table, because it may come back, and its entry says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from dctkd.errors import InputError, did_you_mean

MB, GB = 10**6, 10**9


@dataclass(frozen=True)
class Checksum:
    """What the bytes of a file hash to.

    Attributes:
        algorithm: Name of the hash.
        digest: In hex, lower case.
        origin: Who recorded it.
    """

    algorithm: Literal["md5", "sha1", "sha256"]
    digest: str
    origin: str


@dataclass(frozen=True)
class OfficialFile:
    """One file that the authors of a dataset offer: an archive, or a list.

    Attributes:
        name: Name that the file keeps on this disk.
        urls: Addresses, best first; http or https.
        lands_at: Where its content ends up, relative to the data root: the folder that an archive unpacks to, where a
            folder of that name inside the archive is not doubled; or the path of a list.
        expected_bytes: Size, in bytes; about, unless `is_size_exact`. Twice this is the most that is downloaded.
        checksum: How it is checked, or None if nobody is known to have recorded one.
        is_size_exact: Whether a file of another size is refused.
        proofs: Paths below the root of which one exists once an archive is unpacked: first what `lands_at` will hold,
            then where other copies have it. Empty for a list.
        max_unpacked_bytes: The most that an archive may unpack to; None: the limits of `archives.unpack`.
        known_state: What is known of the addresses, with a date; empty if nothing bad is.
    """

    name: str
    urls: tuple[str, ...]
    lands_at: str
    expected_bytes: int
    checksum: Checksum | None = None
    is_size_exact: bool = False
    proofs: tuple[str, ...] = ()
    max_unpacked_bytes: int | None = None
    known_state: str = ""

    @property
    def is_archive(self) -> bool:
        """Whether it has to be unpacked."""
        return bool(self.proofs)

    @property
    def how_checked(self) -> str:
        """How a copy is checked, for messages."""
        checks = [f"{self.expected_bytes} bytes"] if self.is_size_exact else []
        if self.checksum is not None:
            checks.append(f"{self.checksum.algorithm} {self.checksum.digest} (recorded by {self.checksum.origin})")
        return " and ".join(checks) or "nothing but its content: no checksum is known"


@dataclass(frozen=True)
class OfficialSource:
    """What a dataset consists of.

    Attributes:
        homepage: Of the dataset.
        terms: What the user should know about using it.
        folder: What all of it ends up in, relative to the data root.
        files: In the order in which they are put in place.
        data_root: What the experiment file of this dataset takes for `data_root`, relative to the data root.
    """

    homepage: str
    terms: str
    folder: str
    files: tuple[OfficialFile, ...]
    data_root: str = "."


_INDOOR_RECORD = "github.com/bwhite/vision_data, vision_data/_indoor09.py"
_INDOOR_LISTS = "github.com/sami-bg/stable-datasets, Indoor67; its lists of 2026-09-30"
_MINIPLACES = "https://raw.githubusercontent.com/CSAILVision/miniplaces/43f337898589dc70f4cf024587ead2aa1cff4e73/data"
_MINIPLACES_RECORD = "dctkd, from github.com/CSAILVision/miniplaces at commit 43f3378"


def _indoor_list(name: str, sha256: str, expected_bytes: int) -> OfficialFile:
    return OfficialFile(
        name=name,
        urls=(f"https://web.mit.edu/torralba/www/{name}", f"http://web.mit.edu/torralba/www/{name}"),
        lands_at=f"MIT67/{name}",
        expected_bytes=expected_bytes,
        checksum=Checksum("sha256", sha256, _INDOOR_LISTS),
    )


def _miniplaces_list(name: str, num_bytes: int, sha256: str | None = None) -> OfficialFile:
    return OfficialFile(
        name=name,
        urls=(f"{_MINIPLACES}/{name}",),
        lands_at=f"miniplaces/{name}",
        expected_bytes=num_bytes,
        checksum=Checksum("sha256", sha256, _MINIPLACES_RECORD) if sha256 else None,
        is_size_exact=True,
    )


OFFICIAL_SOURCES: Mapping[str, OfficialSource] = MappingProxyType(
    {
        "ade20k": OfficialSource(
            homepage="http://sceneparsing.csail.mit.edu",
            terms="research and teaching, not commerce; https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
            folder="ADEChallengeData2016",
            files=(
                OfficialFile(
                    name="ADEChallengeData2016.zip",
                    urls=("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                    lands_at="ADEChallengeData2016",
                    expected_bytes=970 * MB,
                    checksum=Checksum(
                        "sha1", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7", "gluon-cv, scripts/datasets/ade20k.py"
                    ),
                    proofs=("ADEChallengeData2016/images/training",),
                    max_unpacked_bytes=5 * GB,
                ),
            ),
        ),
        "mit67": OfficialSource(
            homepage="https://web.mit.edu/torralba/www/indoor.html",
            terms="'for research purposes only', says the homepage",
            folder="MIT67",
            files=(
                OfficialFile(
                    name="indoorCVPR_09.tar",
                    urls=(
                        "http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
                        "https://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
                    ),
                    lands_at="MIT67/Images",
                    expected_bytes=2_600 * MB,
                    checksum=Checksum("md5", "5d176e5f0e56624a453f2fe0d8b19ff7", _INDOOR_RECORD),
                    proofs=("MIT67/Images/airport_inside",),
                    max_unpacked_bytes=8 * GB,
                    known_state="the official archive answered 404 on 2026-09-30 "
                    "(github.com/sami-bg/stable-datasets, Indoor67)",
                ),
                _indoor_list(
                    "TrainImages.txt", "7ec85f88735739d8159061e4bcf6a9765aab8606ab444605b3f8e0641be0260e", 250_000
                ),
                _indoor_list(
                    "TestImages.txt", "906c529a5a0918feec371de5b07a465ddb1f15ebaebc90a33cc321c371133bf1", 60_000
                ),
            ),
        ),
        "miniplaces": OfficialSource(
            homepage="https://github.com/CSAILVision/miniplaces",
            terms="the terms of Places2, http://places2.csail.mit.edu",
            folder="miniplaces",
            data_root="miniplaces",
            files=(
                OfficialFile(
                    name="data.tar.gz",
                    urls=(
                        "http://miniplaces.csail.mit.edu/data/data.tar.gz",
                        "http://6.869.csail.mit.edu/fa17/miniplaces/data.tar.gz",
                        "http://places.csail.mit.edu/miniplaces/data/data.tar.gz",
                    ),
                    lands_at="miniplaces",
                    expected_bytes=500 * MB,
                    checksum=Checksum(
                        "md5", "265825ec94f79390e4f1e38045a69059", "a public loader that fetches the same address"
                    ),
                    proofs=("miniplaces/images/train",),
                    max_unpacked_bytes=3 * GB,
                ),
                _miniplaces_list("train.txt", 3_516_000),
                _miniplaces_list("val.txt", 199_000),
                _miniplaces_list(
                    "categories.txt", 1716, "8658c6e5154e7502a1377e5ba1530b6f3618c0ddf98c72c14d2ad47bb6138d43"
                ),
                _miniplaces_list(
                    "object_categories.txt", 1938, "a5b4b475c579d9b641ba7473ab08a52cef5237340dc37155e857edca094aec8b"
                ),
            ),
        ),
        "sun397": OfficialSource(
            homepage="https://vision.princeton.edu/projects/2010/SUN/",
            terms="photographs from the web, whose rights stay with their owners; see the homepage",
            folder="SUN397",
            files=(
                OfficialFile(
                    name="SUN397.tar.gz",
                    urls=(
                        "https://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                        "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                        "https://3dvision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                    ),
                    lands_at="SUN397",
                    expected_bytes=39 * GB,
                    checksum=Checksum("md5", "8ca2778205c41d23104230ba66911c7a", "torchvision.datasets.SUN397"),
                    proofs=("SUN397/a/abbey",),
                    max_unpacked_bytes=80 * GB,
                    known_state="the official archive answered 404 on 2026-06-25 "
                    "(github.com/pytorch/vision, issue 9348 and pull request 9528)",
                ),
                OfficialFile(
                    name="Partitions.zip",
                    urls=(
                        "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
                        "https://3dvision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
                        "http://people.csail.mit.edu/jxiao/SUN/download/Partitions.zip",
                    ),
                    lands_at="SUN397/Partitions",
                    expected_bytes=10 * MB,
                    checksum=Checksum(
                        "sha256",
                        "e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
                        "torchvision.prototype.datasets, sun397.py",
                    ),
                    proofs=("SUN397/Partitions/Training_01.txt", "SUN397/Training_01.txt"),
                    max_unpacked_bytes=200 * MB,
                    known_state="its address answers like that of the archive: 404 since 2025 "
                    "(github.com/KaiyangZhou/CoOp, issue 90, of 2025-09-23)",
                ),
            ),
        ),
    }
)
"""All datasets whose official files are known, by the name of their format."""


def get_source(name: str) -> OfficialSource:
    """Return what is known of a dataset's official files.

    Args:
        name: Of the format, as in OFFICIAL_SOURCES.

    Raises:
        InputError: If none are known under that name; suggests the nearest.

    Example:
        >>> [file.name for file in get_source("sun397").files]
        ['SUN397.tar.gz', 'Partitions.zip']
    """
    if name not in OFFICIAL_SOURCES:
        raise InputError(f"no official files are known for {name!r}{did_you_mean(name, OFFICIAL_SOURCES)}")
    return OFFICIAL_SOURCES[name]
