"""Lack of memory splits a pack and changes no bit; alone it is a result with a remedy."""

import gc

import pytest
import torch

from dctkd.data.host import HostSource
from dctkd.data.resident import ResidentSource
from dctkd.engine import pack, stream
from dctkd.engine.failure import Failure
from dctkd.engine.job import FailedRunsError
from dctkd.engine.learner import Learner
from dctkd.errors import is_out_of_memory

LACK = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"


@pytest.fixture
def reference(make_experiment, tiny):
    tiny["methods"] = dict.fromkeys(["baseline", "kd", "at", "dct"])
    return make_experiment(tiny, "reference").prepare().train()


def lacking(monkeypatch, whom, *, limit, from_step=0):
    """Let the named students' steps lack memory in packs of more than `limit`; return the sizes of the packs."""
    sizes = []
    build, add_gradient = pack._Pack.__init__, Learner.add_gradient

    def counted(self, job, tasks, *args):
        sizes.append(len(tasks))
        build(self, job, tasks, *args)

    def lack(self, *args, **keywords):
        if sizes[-1] > limit and self.step >= from_step and self.name.split("/")[-3] in whom:
            raise RuntimeError(LACK)
        add_gradient(self, *args, **keywords)

    monkeypatch.setattr(pack._Pack, "__init__", counted)
    monkeypatch.setattr(Learner, "add_gradient", lack)
    return sizes


@pytest.mark.parametrize(
    ("whom", "limit", "sizes"),
    [
        ({"at"}, 3, [4, 1]),
        ({"at", "dct"}, 2, [4, 2]),
        ({"at", "dct"}, 1, [4, 2, 1, 1]),
        ({"baseline", "kd", "at", "dct"}, 2, [4, 2, 2]),
    ],
)
def test_what_does_not_fit_is_trained_in_smaller_packs_with_the_same_bits(
    make_experiment, reference, monkeypatch, whom, limit, sizes
):
    experiment = make_experiment(reference.raw, "small").prepare()
    seen = lacking(monkeypatch, whom, limit=limit, from_step=3)
    experiment.train()
    assert seen == sizes
    assert experiment.bits() == reference.bits()


@pytest.mark.parametrize("whom", [{"at"}, {"baseline", "kd", "at", "dct"}])
def test_pixels_leave_the_device_before_the_pack_is_split(make_experiment, reference, monkeypatch, whom):
    def choose(cache, recipe, device, *, may_be_resident):
        is_resident.append(may_be_resident)
        return ResidentSource(cache, recipe, device) if may_be_resident else HostSource(cache, recipe)

    experiment, is_resident = make_experiment(reference.raw, "small").prepare(), []
    monkeypatch.setattr(stream, "choose_source", choose)
    add_gradient = Learner.add_gradient

    def lack(self, *args, **keywords):
        if is_resident[-1] and self.step >= 3 and self.name.split("/")[-3] in whom:
            raise RuntimeError(LACK)
        add_gradient(self, *args, **keywords)

    monkeypatch.setattr(Learner, "add_gradient", lack)
    experiment.train(*whom)
    experiment.train()
    assert is_resident == [True, False, *([True] if len(whom) < 4 else [])]
    assert experiment.bits() == reference.bits()


def test_a_teacher_s_pass_that_does_not_fit_beside_its_students_splits_the_pack(
    make_experiment, reference, monkeypatch
):
    experiment = make_experiment(reference.raw, "small").prepare()
    sizes = lacking(monkeypatch, set(), limit=9)
    timed = pack.Speed.timed_teacher

    def lack(self, teacher):
        run, calls = timed(self, teacher), []

        def short(batch):
            calls.append(batch)
            if sizes[-1] > 2 and len(calls) == 6:
                raise MemoryError
            return run(batch)

        return short

    monkeypatch.setattr(pack.Speed, "timed_teacher", lack)
    experiment.train()
    assert sizes == [4, 2, 2]
    assert experiment.bits() == reference.bits()


def test_a_result_that_is_stored_before_memory_runs_out_is_not_made_again(make_experiment, reference, monkeypatch):
    experiment = make_experiment(reference.raw, "small").prepare()
    sizes = lacking(monkeypatch, set(), limit=9)
    finish, stored = pack.RunRecord.finish, []

    def lack(self, *args):
        if len(stored) == 2 and len(sizes) == 1:
            raise MemoryError
        finish(self, *args)
        stored.append(self.task.run.path)

    monkeypatch.setattr(pack.RunRecord, "finish", lack)
    experiment.train()
    assert sizes == [4, 2]
    assert len(stored) == len(set(stored)) == 4
    assert experiment.bits() == reference.bits()
    assert not list(experiment.store.path.glob("*/checkpoint*"))


def test_alone_it_is_a_result_that_names_the_remedy(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    lacking(monkeypatch, {"kd"}, limit=0, from_step=5)
    experiment.train()
    metrics = experiment.metrics("kd")
    assert (metrics["status"], metrics["results"], metrics["detail"]["step"]) == ("oom", [], 5)
    assert "batch_size" in metrics["detail"]["remedy"]
    assert {experiment.metrics(method)["status"] for method in ("baseline", "at")} == {"ok"}


def test_a_failed_student_gives_its_memory_back(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    failed = []
    fail = Learner.fail

    def noted(self, error):
        fail(self, error)
        failed.append(self)

    monkeypatch.setattr(Learner, "fail", noted)
    lacking(monkeypatch, {"kd"}, limit=1)
    experiment.train()
    assert not {"model", "objective", "optimiser", "parameters"} & vars(failed[0]).keys()
    assert isinstance(failed[0].failure, Failure)


def test_torch_s_own_errors_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_the_next_pack_finds_nothing_of_the_former_in_memory(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    lacking(monkeypatch, {"kd"}, limit=1)
    before = {id(one) for one in gc.get_objects()}
    left = []
    give_back = pack.give_memory_back

    def counted():
        give_back()
        left.extend(one for one in gc.get_objects() if type(one) in (Learner, pack._Pack) and id(one) not in before)

    monkeypatch.setattr(pack, "give_memory_back", counted)
    experiment.train()
    assert left == []
    assert experiment.metrics("kd")["status"] == "ok"


def test_a_fault_that_may_be_a_lack_of_memory_is_tried_alone_and_then_a_crash(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    add_gradient = Learner.add_gradient

    def break_down(self, *args, **keywords):
        if "/at/" in self.name:
            raise RuntimeError("could not create a primitive")
        add_gradient(self, *args, **keywords)

    monkeypatch.setattr(Learner, "add_gradient", break_down)
    with pytest.raises(FailedRunsError, match=r"1 of 3 runs crashed: \S*/at/"):
        experiment.train()
    assert {experiment.metrics(method)["status"] for method in ("baseline", "kd")} == {"ok"}
