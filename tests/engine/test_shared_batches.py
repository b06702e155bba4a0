"""What is known of a run of several processes before any is started: who sees which images, and what is refused."""

import itertools
import json
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dctkd.data.batches import Part, batch_rows, train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.host import HostSource
from dctkd.engine import build, group
from dctkd.engine.build import require_separable_batches
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.member import LentLock
from dctkd.engine.ranks import ALONE
from dctkd.errors import InputError
from dctkd.locks import try_lock
from dctkd.methods import METHODS, catalogue
from dctkd.models import first_batch_norm
from dctkd.packs import Pack

COUPLING = sorted(name for name, entry in catalogue.read().items() if entry["needs_whole_batch"])


@pytest.fixture
def grouped(tiny):
    """The tiny experiment with group normalisation and two processes."""
    for model in tiny["models"].values():
        model["options"] |= {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16]}
    tiny["recipes"]["short"]["processes"] = 2
    return tiny


@pytest.mark.parametrize("num_ranks", range(1, 9))
@pytest.mark.parametrize("num_images", [2, 3, 4, 5, 7, 16, 33])
def test_every_image_of_a_batch_counts_once_and_no_process_has_fewer_than_two(num_ranks, num_images):
    pieces = [Part(rank, num_ranks).rows_of(slice(10, 10 + num_images)) for rank in range(num_ranks)]
    seen = [row for rows, counts in pieces if counts for row in range(rows.start, rows.stop)]
    assert seen == list(range(10, 10 + num_images))
    assert all(rows.stop - rows.start >= 2 for rows, _ in pieces)
    assert all(10 <= rows.start < rows.stop <= 10 + num_images for rows, _ in pieces)


def test_a_process_reads_its_own_pixels_alone_and_all_together_read_the_batches_of_one(make_experiment, tiny):
    experiment = make_experiment(tiny).prepare_data()
    cache = PixelCache.open(next(experiment.results.glob("cache/*/fingerprint.json")).parent)
    recipe = experiment.plan.config.datasets["shapes"].input

    def drawn(part, start=0):
        asked = []
        source = HostSource(cache, recipe)
        images = source._images
        source._images = lambda gather, crops, rows: asked.append(rows) or images(gather, crops, rows)
        options = {"seed": 0, "epoch": 1, "batch_size": 16, "source": source, "start": start, "part": part}
        return list(train_batches(cache, recipe, **options)), asked

    whole, _ = drawn(Part())
    parts = [drawn(Part(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole[:-1]):
        assert torch.equal(batch.images_BCHW, torch.cat([raws[step].images_BCHW for raws, _ in parts]))
        assert torch.equal(batch.index_B, torch.cat([raws[step].index_B for raws, _ in parts]))
    assert len(whole[-1].index_B) == 2  # for the second process nothing is left
    assert torch.equal(parts[1][0][-1].index_B, whole[-1].index_B)
    for rank, (_, asked) in enumerate(parts):
        assert asked == [Part(rank, 2).rows_of(rows)[0] for rows in batch_rows(50, 16)]
    assert [raw.index_B.tolist() for raw in drawn(Part(1, 2), start=2)[0]] == [
        raw.index_B.tolist() for raw in parts[1][0][2:]
    ]


@pytest.mark.parametrize("method", COUPLING)
def test_a_method_that_relates_images_is_refused_when_the_plan_is_made(make_experiment, grouped, method):
    grouped["methods"] = {method: None}
    with pytest.raises(InputError, match=rf"methods\.{method}: .*remove processes from recipes\.short"):
        _ = make_experiment(grouped).plan


def test_coupling_methods_are_known():
    assert set(COUPLING) >= {"crd", "rkd", "sp"}
    assert set(COUPLING) < set(METHODS)


def test_processes_are_part_of_the_digest_and_null_leaves_it_as_it_was(make_experiment, tiny):
    def specs(name, **recipe):
        tiny["recipes"]["short"] |= recipe
        return [run.spec for run in make_experiment(tiny, name).plan.runs]

    former = specs("former")
    assert specs("null", processes=None, synchronise_batch_norm=None) == former
    two = specs("two", processes=2)
    assert not {*two} & {*former}
    assert not {*specs("three", processes=3)} & {*two, *former}
    assert specs("true", processes=2, synchronise_batch_norm=True) == two, "it is the default"
    assert not {*specs("false", synchronise_batch_norm=False)} & {*two}


def test_batch_normalisation_that_a_cpu_cannot_synchronise_is_refused_with_the_remedies(make_experiment, tiny):
    tiny["recipes"]["short"]["processes"] = 2
    tiny["device"] = "cpu"
    message = r"recipes\.short\.processes: resnet18 .*bn1.*set synchronise_batch_norm: false.*norm_layer"
    with pytest.raises(InputError, match=message):
        require_separable_batches(make_experiment(tiny).plan)


def test_batch_normalisation_is_accepted_per_process_or_on_gpus(make_experiment, tiny, monkeypatch):
    tiny["recipes"]["short"]["processes"] = 2
    with monkeypatch.context() as patch:
        patch.setattr(build, "resolve_device", lambda wanted: "cuda")
        require_separable_batches(make_experiment(tiny, "gpu").plan)
    tiny["recipes"]["short"]["synchronise_batch_norm"] = False
    require_separable_batches(make_experiment(tiny, "split").plan)


def test_batch_normalisation_in_a_method_s_layers_is_refused_too(make_experiment, grouped):
    grouped["methods"] = {"kd": None, "fitnets": None}
    grouped["device"] = "cpu"
    with pytest.raises(InputError, match=r"the layers of row fitnets normalise over the batch"):
        require_separable_batches(make_experiment(grouped).plan)


def test_frozen_batch_normalisation_and_others_that_see_no_batch_need_nothing():
    assert first_batch_norm(nn.Sequential(FrozenBatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))) is None


@pytest.mark.parametrize("students_per_job", [2, "all"])
def test_more_students_per_job_than_one_are_refused(make_experiment, grouped, students_per_job):
    grouped["students_per_job"] = students_per_job
    with pytest.raises(InputError, match=r"students_per_job: with processes a job trains one student"):
        _ = make_experiment(grouped).plan


@pytest.mark.parametrize("students_per_job", [1, "auto"])
def test_a_job_trains_one_student(make_experiment, grouped, students_per_job):
    grouped["students_per_job"] = students_per_job
    assert make_experiment(grouped).plan.packs == (Pack(0, ("baseline",)), Pack(1, ("kd",)), Pack(2, ("at",)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"processes": 1}, r"processes: expected greater than or equal to 2, got 1"),
        ({"processes": 9}, r"processes 9 need a batch_size of at least 18, two images each, got 16"),
        ({"processes": 2, "compile": "default"}, r"compile and processes exclude each other"),
        ({"synchronise_batch_norm": False}, r"synchronise_batch_norm is for runs of several processes"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make_experiment, tiny, recipe, message):
    tiny["recipes"]["short"] |= recipe
    with pytest.raises(InputError, match=message):
        _ = make_experiment(tiny).plan


def ended(folder, ends, status=1, reports=None, interrupt=None):
    (folder / group.ENDS).write_text(json.dumps(ends))
    for rank, report in (reports or {}).items():
        (folder / f"{rank}.report").write_text(json.dumps(report))
    return group._outcome(folder, status, interrupt or Interrupt())


@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        ({"0": group.EXIT_BEREFT, "1": -9}, 1, "rank 1 was killed by SIGKILL;"),
        ({"0": -15, "1": -11}, 1, "rank 1 was killed by SIGSEGV;"),
        ({"0": 75, "2": 3}, 1, "rank 2 ended with status 3;"),
        ({}, -9, "the agent of the run's processes was killed by SIGKILL;"),
    ],
)
def test_who_ended_a_group_is_told_from_those_who_followed(tmp_path, ends, status, reason):
    report = ended(tmp_path, ends, status)
    assert report["kind"] == "crashed"
    assert report["reason"].startswith(reason)


def test_a_member_that_says_why_goes_before_others_ends(tmp_path):
    told = {"kind": "crashed", "reason": "ValueError: x", "trace": "..."}
    assert ended(tmp_path, {"0": -9, "1": 1}, reports={1: told}) == told


def test_members_that_lost_sight_of_each_other_say_how(tmp_path):
    told = {"kind": "bereft", "reason": "RuntimeError: gloo: timed out", "trace": "..."}
    report = ended(tmp_path, {"0": group.EXIT_BEREFT, "1": group.EXIT_BEREFT}, reports={0: told, 1: told})
    assert report == {**told, "kind": "crashed"}


def test_what_the_user_can_mend_is_said_as_from_one_process(tmp_path):
    told = {"kind": "input", "message": "device: all 2 GPUs are claimed"}
    with pytest.raises(InputError, match="all 2 GPUs are claimed"):
        ended(tmp_path, {"0": -15, "1": 1}, reports={1: told})


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    told = {"kind": "system", "errno": 28, "strerror": "No space left on device", "filename": "/x"}
    with pytest.raises(OSError, match="No space left"):
        ended(tmp_path, {"0": 1, "1": group.EXIT_BEREFT}, reports={0: told})


def test_members_that_were_stopped_and_saved_are_an_interruption(tmp_path):
    for number, (ends, status) in enumerate(itertools.product([{"0": 75, "1": 75}, {"0": 75, "1": -15}], [1, 75])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InterruptedRunError, match="run the same command again"):
            ended(folder, ends, status)


def test_a_lent_lock_is_lost_when_another_token_stands_in_it_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("dctkd.engine.member.LOCK_LOOK_S", 0.0)
    with try_lock(tmp_path / "lock") as held:
        lent = LentLock(held.path, held.owner.token)
        assert [lent.is_lost for _ in range(3)] == [False] * 3
        record = held.path.read_text()
        held.path.write_text("")
        assert not lent.is_lost, "somebody may just be writing it"
        held.path.write_text(record)
        assert [lent.is_lost for _ in range(3)] == [False] * 3
        held.path.write_text(record.replace(held.owner.token, "another"))
        assert [lent.is_lost for _ in range(3)] == [False, True, True]


def test_one_process_agrees_with_itself():
    assert ALONE.agree(True, False) == [True, False]
    assert ALONE.gather("own") == ["own"]


def test_a_job_of_one_process_loads_no_launcher():
    names = "('torch.distributed.launcher', 'dctkd.engine.group')"
    code = f"import sys, dctkd.engine.pack; print([name for name in sys.modules if name.startswith({names})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_launching_process_loads_no_torch():
    code = "import sys, dctkd.engine.group; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_signals_of_the_system_have_names():
    assert group._how(-signal.SIGTERM) == "was killed by SIGTERM"
    assert group._how(-60) == "was killed by signal 60"
