"""Killed at any point and started again with the same command, an experiment ends with the same bits."""

import random
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from campaign import PACKING, PUBLISHING, STUDENTS, TABLES, TEACHER, Campaign, Kill, Phase, kills, run_round

KILLS = [
    (PACKING, "job", signal.SIGKILL, (0.0, 0.3)),
    (TEACHER, "both", signal.SIGKILL, (2.5, 4.0)),
    (STUDENTS, "job", signal.SIGKILL, (2.5, 4.5)),
    (STUDENTS, "snakemake", signal.SIGKILL, (2.5, 4.5)),
    (STUDENTS, "both", signal.SIGTERM, (2.5, 4.5)),
    (STUDENTS, "both", signal.SIGINT, (2.5, 4.5)),
    (PUBLISHING, "job", signal.SIGKILL, (0.0, 0.05)),
    (TABLES, "both", signal.SIGKILL, (0.5, 1.5)),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_eight_kills_end_with_the_bits_of_an_undisturbed_run(make_experiment, tiny, tmp_path):
    """make faults does the same with the demo and more kills; docs/reliability.md has its table."""
    tiny["recipes"]["short"]["epochs"] = 50
    tiny["map_sources"] = ["activation"]
    undisturbed = make_experiment(tiny, "undisturbed").prepare().train()
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    source = random.Random(8)
    planned = [Kill(phase, target, number, source.uniform(*delay_s)) for phase, target, number, delay_s in KILLS]
    try:
        campaign = run_round(folder.resolve(), ["--configfile", "tiny.yaml"], planned)
    except SystemExit as error:
        pytest.fail(f"{error}: {(folder / 'snakemake.log').read_text()[-3000:]}")
    struck = [outcome.kill.phase.name for outcome in campaign.outcomes]
    assert len(struck) == len(KILLS)
    assert {"packing", "teacher", "students", "tables"} <= set(struck)
    assert [outcome.orphans for outcome in campaign.outcomes if outcome.orphans] == []
    expected, got = undisturbed.bits(), campaign.bits()
    assert {name: got.get(name) for name in expected} == expected
    for outcome in campaign.outcomes:
        is_fatal = outcome.kill.number == signal.SIGKILL and outcome.kill.target != "job"
        # The Ctrl-C that ends what is slow to end may meet Snakemake while Python itself is ending.
        assert outcome.status in ({-signal.SIGKILL} if is_fatal else {1, -signal.SIGINT})
    shutil.rmtree(folder)


def test_every_signal_meets_every_target_before_one_comes_again():
    ways = [(kill.target, kill.number) for kill in kills([STUDENTS] * 18, {"students": 9.0}, seed=3)]
    assert len(set(ways[:9])) == len(set(ways[9:])) == 9


def test_kills_strike_while_their_phase_lasts():
    delays_s = [kill.delay_s for kill in kills([STUDENTS, TABLES, PUBLISHING] * 30, {"students": 90.0}, seed=1)]
    assert 10 < max(delays_s[::3]) <= 15
    assert set(delays_s[1::3]) == {0.0}, "of a phase that nobody has seen"
    assert max(delays_s[2::3]) < 1


def test_a_phase_is_known_by_its_command_line():
    train = "/usr/bin/python /venv/bin/dctkd train --plan results/demo/plan.json results/demo/x/kd/seed0/metrics.json "
    assert STUDENTS.is_of(train)
    assert not TEACHER.is_of(train)
    assert Phase("any", ()).is_of(train)


def test_the_campaign_compares_results_and_predictions_and_weights(tmp_path):
    (tmp_path / "results/store/d").mkdir(parents=True)
    for name in ("metrics.json", "weights.safetensors", "predictions.parquet", "timing.json"):
        (tmp_path / "results/store/d" / name).write_text(name)
    bits = Campaign(tmp_path, []).bits()
    assert sorted(bits) == [
        f"store/d/{name}" for name in ("metrics.json", "predictions.parquet", "weights.safetensors")
    ]
