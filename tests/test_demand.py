"""What jobs ask of a batch system: in proportion to what they have to do, never more than they may have."""

import pytest

from dctkd.config import resolve
from dctkd.demand import RATES, START_MINUTES, USUAL_MB, USUAL_MINUTES, Demand, NetworkSize, Sizes, key_of
from dctkd.plan import make_plan

RESNET50 = NetworkSize(macs=4_110_000_000, parameters=25_600_000, map_bytes=86_000_000)
RESNET18 = NetworkSize(macs=1_820_000_000, parameters=11_700_000, map_bytes=22_000_000)
MOBILENETV2 = NetworkSize(macs=310_000_000, parameters=3_500_000, map_bytes=78_000_000)


def make_demand(tiny, *, kind="cuda", sizes=True, **changes):
    plan = make_plan(resolve({**tiny, **changes}, where="tiny.yaml"), config_file="tiny.yaml")
    networks = {"shapes/wide": RESNET50, "shapes/narrow": RESNET18}
    return Demand(plan, Sizes(key_of(plan), networks, {"shapes": (100_000, 10_000)}) if sizes else None, kind)


@pytest.mark.parametrize(
    ("network", "training_per_s", "forward_per_s"),
    [(RESNET50, 1218, 3730), (RESNET18, 3482, 11189), (MOBILENETV2, 2313, 9888)],
)
def test_rates_of_a_gpu_are_those_published_for_an_rtx_3090(network, training_per_s, forward_per_s):
    """Source: timm's benchmark csv files, as in benchmarks/paper_rates.py; images per second."""
    assert network.training_s(RATES["cuda"]) * training_per_s == pytest.approx(1, rel=0.1)
    assert network.forward_s(RATES["cuda"]) * forward_per_s == pytest.approx(1, rel=0.15)


def test_minutes_of_students_are_one_teacher_pass_and_their_own_steps_twice_over(tiny):
    demand = make_demand(tiny)
    images = 100_000 * tiny["recipes"]["short"]["epochs"]
    teacher_s = images * RESNET50.forward_s(RATES["cuda"])
    student_s = images * RESNET18.training_s(RATES["cuda"]) + 10_000 * RESNET18.forward_s(RATES["cuda"])
    asked = demand.students_minutes("shapes", ("wide", "narrow"), 30)
    assert asked == pytest.approx(START_MINUTES + 2 * (teacher_s + 30 * student_s) / 60, abs=1)


def test_held_out_images_are_tested_instead_of_trained_on(tiny):
    tiny["recipes"]["short"] |= {"held_out_fraction": 0.4, "epochs": 10}
    demand, rates = make_demand(tiny), RATES["cuda"]
    teacher_s = 600_000 * RESNET50.forward_s(rates)
    student_s = 600_000 * RESNET18.training_s(rates) + (10_000 + 40_000) * RESNET18.forward_s(rates)
    asked = demand.students_minutes("shapes", ("wide", "narrow"), 30)
    assert asked == pytest.approx(START_MINUTES + 2 * (teacher_s + 30 * student_s) / 60, abs=1)


def test_each_attempt_asks_for_more_time_and_memory(tiny):
    demand = make_demand(tiny)
    for ask in (demand.teacher_minutes, demand.teacher_mb):
        assert ask("shapes", "wide", 3) == pytest.approx(3 * ask("shapes", "wide", 1), rel=0.1)


def test_no_job_asks_for_more_time_than_the_site_allows(tiny):
    demand = make_demand(tiny, job_hours=0.5)
    assert demand.students_minutes("shapes", ("wide", "narrow"), 500, attempt=3) == 30
    assert demand.teacher_minutes("shapes", "wide", attempt=9) <= 30


def test_packs_are_as_large_as_get_done_within_the_limit(tiny):
    rows = {f"at{number}": {"method": "at"} for number in range(40)}
    demand = make_demand(tiny, methods=rows)
    number = demand.students_within(0.6)
    assert 1 < number < 40
    assert demand.students_minutes("shapes", ("wide", "narrow"), number) <= 36
    assert demand.students_minutes("shapes", ("wide", "narrow"), number + 1) > 36


def test_a_student_that_does_not_fit_into_the_limit_has_a_job_of_its_own(tiny):
    assert make_demand(tiny).students_within(0.01) == 1


def test_a_gpu_job_asks_for_no_host_memory_for_maps(tiny):
    on_gpu, on_cpu = (make_demand(tiny, kind=kind).students_mb("shapes", ("wide", "narrow"), 1) for kind in RATES)
    weights_mb = 1.5 * (4 * 4 * 11.7 + 4 * 25.6)
    assert on_gpu == pytest.approx(8000 + weights_mb, rel=0.01)
    assert on_cpu == pytest.approx(2000 + weights_mb + 1.5 * 16 * 22, rel=0.01)


def test_without_sizes_the_usual_is_asked(tiny):
    demand = make_demand(tiny, sizes=False)
    assert demand.students_minutes("shapes", ("wide", "narrow"), 9) == USUAL_MINUTES
    assert demand.teacher_mb("shapes", "wide") == USUAL_MB
    assert demand.students_within(1.0) is None


def test_sizes_are_read_back_for_what_they_were_measured_for_alone(tiny, tmp_path):
    sizes, path = make_demand(tiny).sizes, tmp_path / "sizes.json"
    sizes.write(path)
    assert Sizes.read(path, key=sizes.key) == sizes
    assert Sizes.read(path, key="another") is None
    path.write_text(path.read_text()[:50])
    assert Sizes.read(path, key=sizes.key) is None


def test_sizes_of_another_crop_network_or_dataset_are_others(tiny):
    key = make_demand(tiny).sizes.key
    tiny["models"]["wide"]["options"]["layers"] = [2, 1, 1, 1]
    assert make_demand(tiny).sizes.key != key


def test_networks_are_measured_as_they_are_counted_elsewhere(tiny, tmp_path):
    from dctkd.engine.sizes import measure_sizes

    plan = make_demand(tiny).plan
    sizes = measure_sizes(plan, tmp_path)
    assert sizes.images == {"shapes": (50, 24)}
    assert set(sizes.networks) == {"shapes/wide", "shapes/narrow"}
    wide, narrow = sizes.networks["shapes/wide"], sizes.networks["shapes/narrow"]
    assert wide.macs > narrow.macs > 10**5
    assert wide.map_bytes > 2 * 4 * 32 * 32, "at least the stem's maps"
