"""The tables say what the runs measured: values checked against pandas and scipy on the published files."""

import csv
import html
import json
import re

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dctkd.report.collect import gather
from dctkd.report.tables import make_tables, write_tables
from dctkd.report.tables.rendering import DASH
from dctkd.store import write_json
from tests.report.conftest import MadeUp, an_environment
from tests.report.tables.latex import compile_latex, needs_latex
from tests.report.test_report import EVERYTHING


def tables_of(tree, *, partial=False):
    return make_tables(gather(tree.folder, tree.store, partial=partial))


def cell(tables, row, key):
    found = [
        one.cells[i]
        for table in tables
        for i, column in enumerate(table.columns)
        if column.key.endswith(key)
        for one in table.rows
        if one.name == row
    ]
    assert len(found) == 1
    return found[0]


def published(tree, method, metric, stage="last"):
    values = {}
    for seed in tree.seeds:
        results = json.loads(tree.edge(method, seed).read_text())["results"]
        picked = [r["value"] for r in results if (r["metric"], r["stage"], r["split"]) == (metric, stage, "test")]
        values[seed] = picked[0]
    return list(values.values())


@pytest.mark.parametrize(
    ("table", "key", "metric", "stage"),
    [
        ("accuracy", "/top1_percent", "top1_percent", "last"),
        ("accuracy", "/mca_present_percent", "mca_present_percent", "last"),
        ("overlap", "/overlap_ssim_stage3", "overlap_ssim", "stage3"),
        ("overlap", "/overlap_ssim_mean", "overlap_ssim", "mean"),
    ],
)
def test_cell_is_mean_and_t_interval_of_the_published_values(small, table, key, metric, stage):
    values = published(small, "at", metric, stage)
    found = cell(tables_of(small)[table], "at", key)
    low, high = stats.t.interval(0.95, df=2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.ci_low, found.ci_high) == (
        pytest.approx(np.mean(values)),
        pytest.approx(low),
        pytest.approx(high),
    )
    assert found.n == 3


def test_difference_is_the_paired_t_interval(small):
    ours, base = published(small, "at+kd", "top1_percent"), published(small, "baseline", "top1_percent")
    found = cell(tables_of(small)["accuracy"], "at+kd", "/top1_minus_baseline_points")
    interval = stats.ttest_rel(ours, base).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.text.startswith(("+", "-"))


def test_number_can_be_followed_from_the_page_to_the_runs(small, tmp_path):
    write_tables(make_tables(gather(small.folder, small.store)), tmp_path)
    rows = list(csv.DictReader((tmp_path / "accuracy.csv").read_text().splitlines()))
    row = next(r for r in rows if r["row"] == "kd" and r["column"].endswith("/top1_percent"))
    values = []
    for digest in row["runs"].split():
        results = json.loads((small.store / digest / "metrics.json").read_text())["results"]
        values += [
            r["value"] for r in results if (r["metric"], r["stage"], r["split"]) == ("top1_percent", "last", "test")
        ]
    assert float(row["value"]) == pytest.approx(np.mean(values), rel=1e-12)
    assert f"{np.mean(values):.2f} \u00b1" in (tmp_path / "accuracy.md").read_text()
    assert rf"{np.mean(values):.2f} $\pm$" in (tmp_path / "accuracy.tex").read_text()


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Return a complete tree that no test changes, with every kind of table."""
    return MadeUp(tmp_path_factory.mktemp("full"), **EVERYTHING).write()


def cells_of_markdown(text):
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    cells = [cell.strip() for line in lines for cell in re.split(r"(?<!\\)\|", line)[2:-1]]
    return [html.unescape(re.sub(r"\\([^\w\s])", r"\1", cell)) for cell in cells]


def cells_of_latex(text):
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    cells = [cell for line in lines for cell in re.split(r" (?<!\\)& ", line)[1:]]
    words = {r"$\pm$": "\u00b1", "$-$": "-", "---": DASH, r"\_": "_", r"\%": "%", "{[}": "[", "{]}": "]"}
    words |= {r"\textless{}": "<", r"\dag{}": "\u2020", r"\ddag{}": "\u2021"}
    for printed, plain in words.items():
        cells = [cell.replace(printed, plain) for cell in cells]
    return [re.sub(r"^\\textbf\{(.*)\}$", r"**\1**", cell) for cell in cells]


@pytest.mark.parametrize(
    ("tree", "name"),
    [(tree, name) for tree in ("small", "wide", "full") for name in ("accuracy", "comparison", "cost", "overlap")]
    + [("full", "p1_ade20k"), ("full", "p1_alpha")],
)
def test_all_three_forms_show_the_same_numbers_in_bold_or_not(request, tmp_path, tree, name):
    made = request.getfixturevalue(tree)
    write_tables(make_tables(gather(made.folder, made.store)), tmp_path)
    rows = list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
    texts = [f"**{row['text']}**" if row["bold"] else row["text"] for row in rows]
    numbers = {text for text in texts if re.search(r"\d", text)}
    in_csv = [text for text in texts if text in numbers]
    assert in_csv
    assert [c for c in cells_of_markdown((tmp_path / f"{name}.md").read_text()) if c in numbers] == in_csv
    assert [c for c in cells_of_latex((tmp_path / f"{name}.tex").read_text()) if c in numbers] == in_csv


@pytest.mark.slow
@needs_latex
def test_every_table_compiles_with_pdflatex(full, tmp_path):
    for path in write_tables(make_tables(gather(full.folder, full.store)), tmp_path):
        if path.suffix == ".tex":
            compile_latex(path)


def test_rows_are_the_teacher_and_the_methods_in_the_order_of_the_config(made_up):
    methods = ("kd", "baseline", "at+kd", "at")
    tree = made_up(methods=methods)
    tables = tables_of(tree)
    assert [row.name for row in tables["accuracy"][0].rows] == ["teacher", *methods]
    assert [row.name for row in tables["overlap"][0].rows] == list(methods)


def test_diverged_runs_are_counted_and_not_in_the_mean(made_up):
    tree = made_up(failures={("at", 1): "diverged"})
    found = cell(tables_of(tree)["accuracy"], "at", "/top1_percent")
    assert found.n == 2
    assert found.text.endswith("(n = 2, 1 div.)")
    note = " ".join(tables_of(tree)["accuracy"][-1].notes)
    last = "last finite, in step 40: loss 2.5, gradient norm 7.25"
    assert f"madeup/scenes/wide__narrow/at/seed1 (diverged in epoch 3; {last})" in note


def test_method_without_a_good_run_shows_why_and_has_no_number(made_up):
    tree = made_up(failures={("at", 0): "oom", ("at", 1): "diverged", ("at", 2): "diverged"})
    tables = tables_of(tree)["accuracy"]
    found = cell(tables, "at", "/top1_percent")
    assert (found.text, found.value) == ("2 div., 1 oom", None)
    assert cell(tables, "at", "/top1_minus_baseline_points").text == DASH


def test_difference_uses_only_the_seeds_that_both_have(made_up):
    tree = made_up(failures={("baseline", 0): "diverged", ("at", 2): "oom"})
    found = cell(tables_of(tree)["accuracy"], "at", "/top1_minus_baseline_points")
    assert (found.n, found.ci_low, len(found.runs)) == (1, None, 2)


def test_one_seed_gives_an_interval_over_test_images_and_says_so(made_up):
    tree = made_up(seeds=(0,))
    found = cell(tables_of(tree)["accuracy"], "kd", "/top1_percent")
    num_right = round(found.value * 10)
    low, high = stats.binom.interval(0.95, 1000, num_right / 1000)
    assert (found.ci_low, found.ci_high, found.n) == (pytest.approx(low / 10), pytest.approx(high / 10), 1)
    assert re.fullmatch(r"\d+\.\d\d \u00b1 \d\.\d\d \(images\)", found.text)
    assert not found.is_bold


def test_one_seed_without_predictions_gives_no_interval(made_up):
    tree = made_up(seeds=(0,))
    (tree.run_folder("kd", 0).path / "predictions.parquet").unlink()
    found = cell(tables_of(tree)["accuracy"], "kd", "/top1_percent")
    assert (found.ci_low, found.n) == (None, 1)
    assert re.fullmatch(r"\d+\.\d\d", found.text)


def test_bold_is_what_paired_tests_cannot_tell_from_the_best(made_up):
    tree = made_up(methods=("baseline", "kd", "at"), seeds=tuple(range(30)))
    found = {method: published(tree, method, "top1_percent") for method in ("baseline", "kd", "at")}
    best = max(found, key=lambda method: np.mean(found[method]))
    pairs = [("baseline", "kd"), ("baseline", "at"), ("kd", "at")]
    p = {pair: stats.ttest_rel(found[pair[0]], found[pair[1]]).pvalue for pair in pairs}
    corrected = dict(zip(p, multipletests(list(p.values()), method="holm")[1], strict=True))
    expected = {
        m for m in found if m == best or next(q for pair, q in corrected.items() if {m, best} == set(pair)) > 0.05
    }
    tables = tables_of(tree)["accuracy"]
    assert {m for m in found if cell(tables, m, "/top1_percent").is_bold} == expected
    assert expected < set(found)  # else nothing is tested


def test_missing_runs_are_dashes_and_counted_never_zero(made_up):
    absent = frozenset((method, seed) for method in ("kd",) for seed in (0, 1, 2)) | {("teacher", 0)}
    tables = tables_of(made_up(absent=absent), partial=True)
    for row in ("kd", "teacher"):
        assert [one.text for one in next(r for r in tables["accuracy"][0].rows if r.name == row).cells] == [DASH] * 4
    notes = " ".join(tables["accuracy"][-1].notes)
    assert "9 of 12 student runs, 0 of 1 teachers" in notes
    assert "4 runs are missing" in notes


def test_experiment_without_any_run_gives_tables_of_dashes(made_up):
    absent = frozenset((m, s) for m in ("baseline", "kd", "at", "at+kd", "teacher") for s in (0, 1, 2))
    tables = tables_of(made_up(absent=absent), partial=True)
    assert {one.text for row in tables["accuracy"][0].rows for one in row.cells} == {DASH}
    assert {one.text for row in tables["overlap"][0].rows for one in row.cells} == {DASH}


def test_networks_have_two_flops_per_multiply_accumulate(small):
    tables = tables_of(small)["cost"]
    assert cell(tables, "wide (teacher)", "gmacs").value == pytest.approx(4.0)
    assert cell(tables, "wide (teacher)", "gflops").value == pytest.approx(8.0)
    assert cell(tables, "narrow (student)", "parameters").text == "11,176,512"


def test_networks_that_differ_by_dataset_have_a_row_each(made_up):
    tree = made_up(datasets=("b", "a"))
    models = {f"{dataset}/narrow": {"macs": 1, "parameters": ord(dataset)} for dataset in "ab"}
    models |= {f"{dataset}/wide": {"macs": 1, "parameters": 2} for dataset in "ab"}
    write_json(tree.folder / "cost.json", tree.cost() | {"models": models})
    names = [row.name for row in tables_of(tree)["cost"][0].rows]
    assert names == ["wide (teacher)", "narrow (student, b)", "narrow (student, a)"]


def test_notes_say_what_the_counts_of_gmacs_leave_out_and_why_some_are_missing(made_up):
    tree = made_up()
    methods = {
        "scenes/wide__narrow/kd": {"extra_parameters": 0, "extra_macs": 0, "extra_macs_batch_size": 64},
        "scenes/wide__narrow/at": {"extra_macs": None, "extra_macs_reason": "no luck", "extra_macs_batch_size": 64},
        "scenes/wide__narrow/at+kd": {"extra_macs": 1, "extra_ignored_ops": {"aten::fft": 3}},
    }
    write_json(tree.folder / "cost.json", tree.cost() | {"methods": methods})
    tables = tables_of(tree)["cost"]
    notes = tables[-1].notes
    assert "GMACs of narrow, wide leave out: aten::add_." in notes
    assert "Extra GMACs of at+kd leave out: aten::fft." in notes
    assert "Extra GMACs of at are not counted: no luck." in notes
    assert "Extra GMACs are per image, in batches of 64 images." in notes
    assert cell(tables, "at", "/extra_gmacs").text == DASH


def test_training_cost_of_a_method(small):
    tables = tables_of(small)["cost"]
    assert cell(tables, "baseline", "/extra_parameters").text == "0"
    assert cell(tables, "at", "/extra_gmacs").value == pytest.approx(0.004)
    assert cell(tables, "at", "/train_images_per_second").value == pytest.approx(513.25)
    assert cell(tables, "at", "/train_seconds").value == pytest.approx(121.5)
    assert cell(tables, "at", "/peak_memory_mebibytes").value == pytest.approx(512)


def test_training_seconds_never_come_from_a_pack(made_up):
    tables = tables_of(made_up(packed=4))["cost"]
    assert cell(tables, "at", "/train_seconds").text == DASH
    assert cell(tables, "at", "/train_images_per_second").text == DASH
    assert cell(tables, "at", "/train_images_per_second_packed").value == pytest.approx(513.25)
    assert any("not comparable" in note for note in tables[-1].notes)


def test_wide_experiment_has_a_table_per_quantity_and_a_column_per_dataset_and_pair(wide):
    tables = tables_of(wide)["accuracy"]
    assert len(tables) == 3
    assert [len(table.columns) for table in tables] == [9, 9, 9]
    assert tables[0].columns[0].label == "b r50__r18"
    assert len({column.key for table in tables for column in table.columns}) == 27


def test_every_file_names_experiment_seeds_epoch_commit_and_hardware(wide):
    for tables in tables_of(wide).values():
        text = " ".join([tables[-1].title, *tables[-1].notes])
        for part in (
            "madeup",
            "n = 2 seeds",
            "72 of 72 student runs, 6 of 6 teachers",
            "last epoch",
        ):
            assert part in text
        assert "commit 0123456789ab. Hardware: Made-up CPU, 2 cores, device cpu, precision bfloat16." in text
        assert all(table.title.startswith("madeup: ") for table in tables)


def test_mixed_commits_and_hardware_are_listed_with_counts(made_up):
    def environment(number):
        return (
            an_environment("f" * 40, cpu_model="Other CPU")
            if number == 0
            else an_environment() | {"git_dirty": number == 1}
        )

    notes = " ".join(tables_of(made_up(environment=environment))["accuracy"][-1].notes)
    assert "0123456789ab (11 runs); 0123456789ab (changed) (1 runs); ffffffffffff (1 runs)" in notes
    assert "Made-up CPU, 2 cores, device cpu, precision bfloat16 (12 runs); Other CPU" in notes


def test_runs_resumed_on_another_platform_are_noted(made_up):
    tree = made_up(environment=lambda number: an_environment() | {"mixed_platform": number == 2})
    assert any("1 runs were resumed on another platform" in note for note in tables_of(tree)["accuracy"][-1].notes)


def test_matched_teachers_are_said_to_be_so(made_up):
    tables = tables_of(made_up(teacher_seed="matched"))["accuracy"]
    assert any(note.startswith("Teacher: one per seed") for note in tables[-1].notes)
    assert cell(tables, "teacher", "/top1_percent").n == 3


def test_without_baseline_there_is_no_difference(made_up):
    tables = tables_of(made_up(methods=("kd", "at")))["accuracy"]
    assert not any("baseline" in column.key for table in tables for column in table.columns)


def test_latency_of_networks_is_in_milliseconds_with_percentiles(small):
    found = cell(tables_of(small)["cost"], "narrow (student)", "latency_64_ms")
    assert found.text == "20"
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((20, 18, 40))


def test_whole_experiment_counts_shared_teacher_passes_and_jobs_once(made_up):
    tables = tables_of(made_up(packed=4))["cost"]
    assert cell(tables, "estimated: training steps", "job_hours").value == pytest.approx(2.0)
    # 12 students of 100 s and a quarter of 20 s; one teacher of 100 s
    assert cell(tables, "took: training steps", "job_hours").value == pytest.approx((12 * 105 + 100) / 3600)
    assert cell(tables, "took: jobs, with loading and testing", "job_hours").value == pytest.approx(
        (12 * 180 / 4 + 180) / 3600
    )


def test_energy_is_shown_where_the_hardware_tells_it_and_else_a_dash(made_up, small):
    whole = "took: jobs, with loading and testing"
    tables = tables_of(made_up(joules=5000.0))["cost"]
    assert cell(tables, "kd", "job_energy_kilojoules").value == pytest.approx(5.0)
    assert cell(tables, whole, "energy_kilojoules").text == "65"
    assert cell(tables_of(small)["cost"], whole, "energy_kilojoules").text == DASH
