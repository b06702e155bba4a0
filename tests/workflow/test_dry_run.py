"""What Snakemake makes of an experiment, without training it."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY

CONFIGS = Path(__file__).parents[2] / "config"


@pytest.fixture
def workplace(make_workplace):
    return make_workplace("dry")


def test_the_demo_is_one_data_job_one_teacher_packs_costs_and_tables(workplace):
    raw = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    done = workplace.snakemake("--dry-run", config=str(CONFIGS / "demo.yaml"))
    assert done.status == 0, done.text
    assert [done.count_of(rule) for rule in ("data", "teacher", "cost", "speed", "tables", "all")] == [1] * 6
    packs = [int(number) for number in re.findall(r"^students_pack\d+ +(\d+)$", done.text, flags=re.MULTILINE)]
    assert set(packs) == {len(raw["seeds"])}


def test_each_packs_outputs_are_its_own_methods(workplace, tiny):
    tiny["methods"] = dict.fromkeys(["baseline", "kd", "at", "dct", "at+kd"])
    tiny["students_per_job"] = 2
    done = workplace.snakemake("--dry-run", config=workplace.write(tiny))
    outputs = re.findall(r"rule (students_pack\d):.*?output: ([^\n]*)", done.text, flags=re.DOTALL)
    methods = {rule: re.findall(r"wide__narrow/([^/]+)/seed0", files) for rule, files in outputs}
    assert methods == {
        "students_pack0": ["baseline", "dct"],
        "students_pack1": ["kd", "at+kd"],
        "students_pack2": ["at"],
    }


def test_one_run_can_be_asked_for(workplace, tiny):
    workplace.write(tiny)
    done = workplace.snakemake("--dry-run", "results/tiny/shapes/wide__narrow/kd/seed0/metrics.json")
    assert [done.count_of(rule) for rule in ("students_pack0", "students_pack1", "tables")] == [0, 1, 0]


def test_a_paper_sized_experiment_is_planned_in_five_seconds(workplace, tiny):
    tiny["datasets"] = {f"data{i}": tiny["datasets"]["shapes"] for i in range(3)}
    tiny["models"] = {name: {"architecture": name} for name in ("resnet50", "resnet18", "resnet152", "resnet34")}
    tiny["models"]["mobilenet"] = {"architecture": "mobilenetv2_100"}
    names = [("resnet50", "resnet18"), ("resnet152", "resnet34"), ("resnet50", "mobilenet")]
    tiny["pairs"] = [{"teacher": teacher, "student": student} for teacher, student in names]
    tiny["methods"] = {f"row{i}": {"method": "at", "weight": i + 1} for i in range(20)}
    tiny["seeds"] = [0, 1, 2]
    workplace.write(tiny)
    outcomes = [workplace.snakemake("--dry-run", "--quiet", "--cores", "8") for _ in range(2)]
    assert all(done.status == 0 for done in outcomes), outcomes[0].text
    listed = workplace.snakemake("--dry-run")
    assert listed.text.count("/metrics.json") >= 540
    assert min(done.seconds for done in outcomes) < 5  # the best of two: other processes share the machine


def test_lint_has_nothing_to_say_but_that_there_is_one_environment(workplace, tiny):
    workplace.write(tiny)
    done = workplace.snakemake("--lint")
    complaints = set(re.findall(r"^ +\* ([^:\n]+)", done.text, flags=re.MULTILINE))
    assert complaints <= {"Specify a conda environment or container for each rule."}


def assert_refused(workplace, done, words):
    """Snakemake ended with one line and status 2, and left nothing."""
    lines = [line for line in done.text.splitlines() if line.startswith("error:")]
    assert done.status == 2, done.text
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in done.text
    assert not (workplace.folder / "results").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sedes", [1], "tiny.yaml: unknown key 'sedes'; did you mean 'seeds'?"),
        ("seeds", "many", "tiny.yaml: seeds: "),
        ("methods", {"fitnett": None}, "methods.fitnett: unknown method"),
        ("datasets", {"shapes": {"format": "jpgs", "input": {"crop": 8}}}, "datasets.shapes.format: unknown format"),
        ("reported", ["p9"], "p9.yaml: no such file"),
        ("experiment", "store", "experiment: 'store' is the name of another folder"),
        (
            "recipes",
            {"short": {**TINY["recipes"]["short"], "frozen_stages": 5}},
            "tiny.yaml: recipes.short.frozen_stages: resnet18 (models.wide): 5 stages cannot be frozen: ResNet has 4",
        ),
        ("title", float("inf"), "title: expected a finite number, got inf"),
    ],
)
def test_a_mistake_in_the_experiment_ends_snakemake_with_one_line_and_status_2(workplace, tiny, key, value, words):
    workplace.write({**tiny, key: value})
    done = workplace.snakemake("--dry-run")
    assert_refused(workplace, done, words)


TEXTS = {
    "a key twice": ("{whole}seeds: [7]\n", "tiny.yaml: not valid YAML: key 'seeds' is given twice"),
    "a list bomb": ("experiment: tiny\nx: {bomb}\n", "aliases that stand for more than 100000 values"),
    "itself": ("experiment: tiny\nx: &a [*a]\n", "tiny.yaml: not valid YAML: an alias within its own anchor"),
    "templates": ("{whole}__use_yte__: true\n", "tiny.yaml: __use_yte__: templates run code"),
}
BOMB = "[&b0 [x, x]" + "".join(f", &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 12)) + "]"


@pytest.mark.parametrize(("text", "words"), TEXTS.values(), ids=TEXTS.keys())
def test_text_that_snakemake_itself_takes_is_held_to_our_rules(workplace, tiny, text, words):
    path = workplace.folder / workplace.write(tiny)
    path.write_text(text.format(whole=path.read_text(), bomb=BOMB))
    done = workplace.snakemake("--dry-run")
    assert_refused(workplace, done, words)
