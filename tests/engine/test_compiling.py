"""Networks under torch.compile: same names, same promises, one line where it cannot be done."""

import re

import pytest
import torch
from torch import nn

from dctkd.engine import train as training
from dctkd.engine.compiling import CompileError, compile_network, meaning_of
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.errors import InputError
from dctkd.models import StageModel

CPU = torch.device("cpu")


@pytest.fixture
def compiled(tiny):
    tiny["recipes"]["short"] |= {"compile": "default", "precision": "float32"}
    tiny["methods"] = {"baseline": None, "at+kd": None}
    return tiny


@pytest.fixture
def traced(monkeypatch):
    """Let torch trace and guard as it does, but run what it traced as it is: seconds instead of minutes."""
    usual, calls = nn.Module.compile, []

    def compile_(self, *, mode, **options):
        calls.append((mode, options))
        usual(self, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    torch._dynamo.utils.counters.clear()
    return calls


class StopAfter(Interrupt):
    """An interrupt that asks to stop after some questions."""

    def __init__(self, questions):
        super().__init__()
        self.left = questions

    @property
    def requested(self):
        self.left -= 1
        return self.left <= 0


def weights_of(experiment):
    return {method: experiment.metrics(method)["weights_sha256"] for method in experiment.raw["methods"]}


def test_compile_is_part_of_a_recipe_s_identity_and_null_is_not(make_experiment, tiny):
    former = make_experiment(tiny, "former").plan
    assert all("compile" not in run.identity["recipe"] for run in (*former.runs, *former.teachers))
    tiny["recipes"]["short"]["compile"] = None
    assert make_experiment(tiny, "null").plan.runs == former.runs
    specs = {former.runs[0].spec, former.teachers[0].spec}
    for mode in ("default", "reduce-overhead", "max-autotune"):
        tiny["recipes"]["short"]["compile"] = mode
        plan = make_experiment(tiny, mode).plan
        specs |= {plan.runs[0].spec, plan.teachers[0].spec}
    assert len(specs) == 8


def test_an_unknown_mode_is_refused(make_experiment, tiny):
    tiny["recipes"]["short"]["compile"] = "fast"
    with pytest.raises(InputError, match=r"recipes\.short\.compile: .*'default', 'reduce-overhead' or 'max-autotune'"):
        _ = make_experiment(tiny).plan


@pytest.mark.slow
def test_networks_that_are_traced_end_with_the_bits_of_those_that_are_not(make_experiment, compiled, traced):
    compiled["methods"]["kd"] = None
    experiment = make_experiment(compiled, "traced").prepare().train()
    assert traced == [("default", {"dynamic": False, "fullgraph": True})] * (1 + 1 + 3)
    compiled["recipes"]["short"]["compile"] = None
    assert weights_of(experiment) == weights_of(make_experiment(compiled, "plain").prepare().train())
    # Teacher in training, teacher, one for all students: each for whole batches and for the last one; none for tests.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3 * 2


@pytest.mark.slow
def test_micro_batches_are_traced_for_each_of_their_sizes(make_experiment, compiled, traced):
    for model in compiled["models"].values():
        model["options"] |= {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16]}
    compiled["recipes"]["short"]["micro_batch"] = 12  # 50 images in batches of 16: 12 + 4 and, at the end, 2
    make_experiment(compiled).prepare().train("baseline")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3 * 3


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_a_step_is_marked_once_before_all_its_passes(make_experiment, compiled, traced, monkeypatch, micro_batch):
    for model in compiled["models"].values():
        model["options"] |= {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16]}
    compiled["recipes"]["short"] |= {"micro_batch": micro_batch}
    experiment, events = make_experiment(compiled).prepare(), []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("mark"))
    step, call = training._step, StageModel.forward

    def noted_step(*args):
        events.append("step")
        step(*args)

    def noted_call(self, images_BCHW):
        if self.training or not torch.is_grad_enabled():
            events.append("pass")
        return call(self, images_BCHW)

    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: None)
    monkeypatch.setattr(training, "_step", noted_step)
    monkeypatch.setattr(StageModel, "forward", noted_call)
    experiment.train()
    steps = "".join(event[0] for event in events).split("s")[1:]
    parts = 1 if micro_batch is None else 2
    whole, last = "m" + "ppp" * parts, "mppp"  # a teacher and two students
    assert steps[:4] == [whole, whole, whole, last]
    assert len(steps) == 8


def test_nothing_is_marked_or_compiled_where_the_recipe_does_not_ask(make_experiment, tiny, monkeypatch):
    def forbidden(*args, **keywords):
        raise AssertionError("not asked for")

    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", forbidden)
    monkeypatch.setattr(nn.Module, "compile", forbidden)
    make_experiment(tiny).prepare().train("baseline")


def test_max_autotune_is_refused_on_a_cpu():
    with pytest.raises(CompileError, match="take default there"):
        compile_network(nn.Linear(1, 1), "max-autotune", CPU)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_network_that_cannot_be_compiled_ends_the_job_with_one_line(make_experiment, compiled, monkeypatch, role):
    experiment = make_experiment(compiled).prepare_data()
    call = StageModel.forward

    def breaks(self, images_BCHW):
        torch._dynamo.graph_break()
        return call(self, images_BCHW)

    if role == "student":
        monkeypatch.setattr(nn.Module, "compile", lambda self, **options: None)
        experiment.prepare()
        monkeypatch.undo()
    monkeypatch.setattr(StageModel, "forward", breaks)
    with pytest.raises(
        CompileError, match=r"^recipes: compile: default: .*\); remove compile from the recipe$"
    ) as info:
        experiment.train() if role == "student" else experiment.prepare()
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 400


def test_an_error_of_the_compiler_s_is_told_from_one_of_a_method_s():
    from torch._inductor.exc import InductorError

    def raised(error, cause):
        try:
            raise error from cause
        except Exception as caught:
            return caught

    mine = raised(ValueError("mine"), KeyError("x"))
    assert meaning_of(mine, "default") is mine
    lack = MemoryError()
    of_compiler = raised(RuntimeError("long\nstory"), InductorError(ValueError("deep"), None))
    assert meaning_of(raised(of_compiler, lack), "default") is lack
    of_compiler = raised(RuntimeError("long\nstory"), InductorError(ValueError("deep"), None))
    assert meaning_of(of_compiler, None) is of_compiler
    with pytest.raises(CompileError, match=re.escape("the network (long); remove")):
        meaning_of(of_compiler, "default")


@pytest.mark.slow
def test_compiled_runs_resume_bit_for_bit_alone_or_packed_and_are_close_to_plain_ones(make_experiment, compiled):
    # Little to compile: one size of batches, two blocks. Batch normalisation is in the tests that trace.
    compiled["datasets"]["shapes"]["options"]["num_train_images"] = 48
    size = {"img_size": 32, "depth": 2, "num_heads": 2}
    for name, width in (("wide", 16), ("narrow", 8)):
        compiled["models"][name] = {"architecture": "vit_tiny_patch16_224", "options": {**size, "embed_dim": width}}
    compiled["models"]["narrow"]["options"]["drop_rate"] = 0.1
    straight = make_experiment(compiled, "straight").prepare().train()
    resumed = make_experiment(compiled, "resumed").prepare()
    for method, questions in (("baseline", 4), ("at+kd", 5)):
        with pytest.raises(InterruptedRunError):
            resumed.train(method, interrupt=StopAfter(questions))
    resumed.train()
    assert resumed.bits() == straight.bits()
    compiled["recipes"]["short"]["compile"] = None
    compiled["models"]["narrow"]["options"]["drop_rate"] = 0.0
    plain = make_experiment(compiled, "plain").prepare()
    first, other = (weights(experiment) for experiment in (straight, plain))
    assert first.keys() == other.keys()
    assert all(torch.allclose(first[name].float(), other[name].float(), rtol=1e-2, atol=1e-3) for name in other)


def weights(experiment):
    from safetensors.torch import load_file

    return load_file(experiment.store.path / experiment.teacher_digest / "weights.safetensors")
