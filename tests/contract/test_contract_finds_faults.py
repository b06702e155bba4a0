"""Each check of the contract fails for a method with the fault it looks for, and lets the hard but sound cases pass."""

import random
import secrets

import numpy as np
import pytest
import torch
from pydantic import ConfigDict, Field
from torch import nn
from torch.nn import functional as F

from dctkd.errors import InputError
from dctkd.methods.base import Method
from dctkd.methods.contract import CLASS_CHECKS, check_method
from dctkd.methods.contract_checks import PAIR_CHECKS
from dctkd.methods.contract_trial import PAIRS, Trial
from dctkd.methods.layers import BatchNorm
from dctkd.methods.options import MethodOptions

ONE_PAIR = PAIRS[1:2]


class Sound(Method):
    """A regressor on the last stage, as in FitNets: the sound method that the others spoil."""

    title = "Sound"
    paper = "Nobody: Nothing. 2024."
    year = 2024
    features = "stages"
    default_weight = 1.0
    default_weight_source = "chosen for the test"

    def __init__(self, student, teacher, data, options):
        super().__init__(student, teacher, data, options)
        self.regress = nn.Sequential(
            nn.Conv2d(student.stages[-1].channels, teacher.stages[-1].channels, 1),
            BatchNorm(teacher.stages[-1].channels),
        )

    def forward(self, student, teacher, batch):
        target_BCHW = F.adaptive_avg_pool2d(teacher.stages[-1].float(), student.stages[-1].shape[-2:])
        difference_BCHW = self.regress(student.stages[-1]).float() - target_BCHW
        return {"mse": batch.mean(difference_BCHW.square().mean(dim=(1, 2, 3)))}


class Memory(Sound):
    """A memory of past features, drawn from at random (as in CRD): buffers, index_B, labels, torch's generator."""

    features = "pooled"

    def __init__(self, student, teacher, data, options):
        super().__init__(student, teacher, data, options)
        del self.regress
        self.embed = nn.Linear(student.pooled_dim, teacher.pooled_dim)
        self.register_buffer("memory_ND", F.normalize(torch.randn(data.num_train_images, teacher.pooled_dim), dim=1))
        self.register_buffer("labels_N", torch.tensor(data.labels))

    def forward(self, student, teacher, batch):
        student_BD = F.normalize(self.embed(student.pooled_BD).float(), dim=1)
        negatives_BM = torch.randint(len(self.labels_N), (len(batch.index_B), 4))
        candidates = torch.cat([batch.index_B.unsqueeze(1), negatives_BM], dim=1)
        scores = torch.einsum("bd,bmd->bm", student_BD, self.memory_ND[candidates].clone())
        with torch.no_grad():
            self.memory_ND[batch.index_B] = F.normalize(teacher.pooled_BD.float(), dim=1)
        target_B = torch.zeros(len(scores), dtype=torch.int64)
        return {"nce": batch.mean(F.cross_entropy(scores, target_B, reduction="none"))}


class Relational(Sound):
    """Similarities between the samples of a batch (as in SP): couples the batch; a weight counts the sample's row."""

    features = "pooled"
    needs_whole_batch = True

    def __init__(self, student, teacher, data, options):
        super().__init__(student, teacher, data, options)
        del self.regress

    def forward(self, student, teacher, batch):
        similarity = [F.normalize(x.pooled_BD.float(), dim=1) for x in (student, teacher)]
        loss_BB = F.smooth_l1_loss(*(x @ x.T for x in similarity), reduction="none")
        return {"relation": batch.mean(loss_BB.mean(dim=1))}


@pytest.mark.parametrize("method_class", [Sound, Memory, Relational])
def test_sound_methods_pass(method_class):
    assert [result for result in check_method(method_class) if not result.passed] == []


class Undescribed(MethodOptions):
    size: int = 3


class Open(MethodOptions):
    model_config = ConfigDict(extra="ignore")


class Thawed(MethodOptions):
    model_config = ConfigDict(frozen=False)


class Hidden(MethodOptions):
    sizes: list[int] = Field(default_factory=lambda: [1], description="sizes")


def returning(change):
    """Spoil what forward returns."""

    def forward(self, student, teacher, batch):
        return change(Sound.forward(self, student, teacher, batch)["mse"])

    return {"forward": forward}


def doing(action):
    """Do something else in forward, before the sound terms."""

    def forward(self, student, teacher, batch):
        action(self, student, teacher, batch)
        return Sound.forward(self, student, teacher, batch)

    return {"forward": forward}


def adding(extra):
    """Add something to the sound term."""

    def forward(self, student, teacher, batch):
        return {"mse": Sound.forward(self, student, teacher, batch)["mse"] + extra(self, student, batch)}

    return {"forward": forward}


def starting(action):
    """Do something else at the end of __init__."""

    def init(self, student, teacher, data, options):
        Sound.__init__(self, student, teacher, data, options)
        action(self)

    return {"__init__": init}


def keep_output(self, student, teacher, batch):
    self.last = student.logits_BK


def count_calls(self, student, teacher, batch):
    self.calls = getattr(self, "calls", 0) + 1


def number_of_calls(self, student, batch):
    count_calls(self, student, None, batch)
    return float(self.calls)


def add_unused_parameter(self):
    self.unused = nn.Parameter(torch.zeros(2))


def add_lazy_parameter(self):
    self.lazy = nn.UninitializedParameter(requires_grad=False)


def add_generator(self):
    self.generator = torch.Generator()


def add_buffer(self):
    self.register_buffer("average", torch.zeros(()))


def average_with_graph(self, student, batch):
    self.average = 0.9 * self.average.detach() + student.logits_BK.float().mean()
    return 0.0


FAULTS = {
    "blank title": ({"title": " "}, "description", "title must be a non-empty text"),
    "unknown feature": ({"features": "stage"}, "description", "features must be among"),
    "no weight": ({"default_weight": 0.0}, "description", "default_weight must be > 0"),
    "no docstring": ({"__doc__": None}, "description", "needs a docstring"),
    "undescribed option": ({"Options": Undescribed}, "options round trip", "without a description"),
    "open options": ({"Options": Open}, "options round trip", "accept an unknown key"),
    "options not frozen": ({"Options": Thawed}, "options round trip", "must stay frozen"),
    "default outside the schema": ({"Options": Hidden}, "options round trip", "give every default in the field"),
    "no dict": (returning(lambda term: term), "terms", "must return a dict"),
    "not 0-d": (returning(lambda term: {"mse": term.view(1)}), "terms", "must be a 0-d float32 tensor, got (1,)"),
    "no terms": (returning(lambda term: {}), "terms", "must return terms"),
    "infinite": (returning(lambda term: {"mse": term / 0}), "terms", "term mse is inf"),
    "names that change": (
        returning(lambda term: {f"mse{str(term.item())[-1]}": term}),
        "terms",
        "names of the terms change",
    ),
    "half precision": (
        returning(lambda term: {"mse": term.bfloat16() if torch.is_autocast_enabled("cpu") else term}),
        "bfloat16",
        "0-d float32 tensor, got () torch.bfloat16",
    ),
    "wrong in half precision": (
        adding(lambda self, student, batch: 10.0 * (student.logits_BK.dtype == torch.bfloat16)),
        "bfloat16",
        "for bfloat16 inputs",
    ),
    "in place": (
        doing(lambda self, student, teacher, batch: teacher.stages[0].mul_(0.5)),
        "inputs untouched",
        "writes into its inputs",
    ),
    "detached": (returning(lambda term: {"mse": term.detach()}), "gradients", "do not depend on the student"),
    "unused parameter": (starting(add_unused_parameter), "gradients", "parameter unused gets no gradient"),
    "infinite slope at 0": (
        adding(lambda self, student, batch: batch.mean(student.pooled_BD.float().square().sum(dim=1).sqrt())),
        "dead images",
        "not finite for an image whose features are all 0",
    ),
    "no variance": (
        adding(lambda self, student, batch: batch.mean(1e-9 / student.pooled_BD.float().var(dim=1))),
        "constant maps",
        "term mse is inf",
    ),
    "unsafe normalisation": (
        starting(lambda self: self.regress.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(256)))),
        "batch of one",
        "Expected more than 1 value per channel",
    ),
    "weights ignored by a relation": (
        {**adding(lambda self, student, batch: student.logits_BK.float().square().mean()), "needs_whole_batch": True},
        "teacher never right",
        "though every sample weight is 0",
    ),
    "counter in the loss": (adding(number_of_calls), "state round trip", "neither parameter nor buffer"),
    "kept output": (doing(keep_output), "nothing kept", "attribute last holds a Tensor"),
    "counter": (doing(count_calls), "nothing kept", "changes the attributes ['calls']"),
    "lazy parameter": (starting(add_lazy_parameter), "nothing kept", "parameter lazy is lazy"),
    "own generator": (starting(add_generator), "nothing kept", "attribute generator holds a Generator"),
    "graph in a buffer": (
        {**starting(add_buffer), **adding(average_with_graph)},
        "nothing kept",
        "buffers ['average'] hold on to the graph",
    ),
    "random": (doing(lambda *_: random.random()), "random numbers", "draws from random or numpy"),
    "numpy.random": (doing(lambda *_: np.random.rand()), "random numbers", "draws from random or numpy"),  # noqa: NPY002
    "seeding": (doing(lambda *_: torch.manual_seed(0)), "random numbers", "seeds torch's global generator"),
    "random seed": (
        adding(lambda *_: torch.rand((), generator=torch.Generator().manual_seed(secrets.randbits(32)))),
        "random numbers",
        "two runs from one torch seed differ",
    ),
    "gradient uphill": (returning(lambda term: {"mse": 2 * term.detach() - term}), "loss falls", "does not fall"),
    "sum over the batch": (
        adding(lambda self, student, batch: student.logits_BK.float().square().sum()),
        "batch doubled",
        "every sample twice",
    ),
    "first sample only": (
        adding(lambda self, student, batch: student.logits_BK[0].float().square().sum()),
        "batch order",
        "the samples in reverse order",
    ),
    "weights ignored": (
        adding(lambda self, student, batch: student.logits_BK.float().square().mean()),
        "sample weights",
        "weights w and 1 - w give",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault):
    attributes, check, message = FAULTS[fault]
    spoilt = type("Spoilt", (Sound,), {"__doc__": "A fault.", "__module__": __name__, **attributes})
    arguments = (spoilt, {}) if check in CLASS_CHECKS else (Trial(spoilt, ONE_PAIR[0]),)
    with pytest.raises((AssertionError, ValueError)) as caught:  # ValueError: what torch raises for the fault itself.
        {**CLASS_CHECKS, **PAIR_CHECKS}[check](*arguments)
    assert message in str(caught.value)


def test_every_check_has_a_fault_that_it_finds():
    assert {check for _, check, _ in FAULTS.values()} == {*CLASS_CHECKS, *PAIR_CHECKS}


class Picky(Sound):
    """Refuses ViT-like pairs, as a method may."""

    def __init__(self, student, teacher, data, options):
        if teacher.stages[0].height != student.stages[0].height:
            raise InputError("Picky needs stages of one size")
        super().__init__(student, teacher, data, options)


def test_a_refused_pair_is_reported_and_not_checked():
    results = check_method(Picky)
    refused = [result for result in results if result.message]
    message = "refused: InputError: Picky needs stages of one size"
    assert refused == [(f"can be made [{name}]", True, message) for name in ("vit__resnet", "resnet__resnet_32px")]
    assert not any("vit__resnet" in result.check for result in results if not result.message)


def test_a_method_that_refuses_every_pair_fails():
    failed = [result for result in check_method(Picky, pairs=PAIRS[3:4]) if not result.passed]
    assert failed == [("some pair is accepted", False, "the method cannot be made for any of vit__resnet")]


def test_a_fault_is_reported_with_its_check_and_pair():
    spoilt = type("Spoilt", (Sound,), {"__doc__": "A fault.", "__module__": __name__, **doing(keep_output)})
    failed = [result for result in check_method(spoilt, pairs=ONE_PAIR) if not result.passed]
    assert [result.check for result in failed] == ["nothing kept [resnet__mobilenetv2]"]
    assert failed[0].message.startswith("AssertionError: attribute last holds a Tensor")


def test_a_crash_in_the_constructor_is_a_failed_check():
    crash = type("Crash", (Sound,), {"__doc__": "A crash.", "__module__": __name__, **starting(lambda self: 1 / 0)})
    failed = {result.check: result.message for result in check_method(crash, pairs=ONE_PAIR) if not result.passed}
    assert failed["can be made [resnet__mobilenetv2]"] == "ZeroDivisionError: division by zero"


def test_checks_leave_the_global_generators_as_they_were():
    before = (random.getstate(), repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    check_method(Memory, pairs=ONE_PAIR)
    after = (random.getstate(), repr(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
