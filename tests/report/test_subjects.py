"""Every table and figure says what it shows, on the page and in paper_tables/README.md."""

from pathlib import Path

import pytest

from dctkd.report import FIGURES, TABLES, figure_names, report_files, table_names
from dctkd.report.subjects import FIGURE_SUBJECTS, TABLE_SUBJECTS, subject_of

from .test_report import EVERYTHING

README = (Path(__file__).parents[2] / "paper_tables" / "README.md").read_text()


def test_each_table_and_figure_has_a_subject_and_no_other(made_up):
    plan = made_up(**EVERYTHING).plan()
    assert TABLE_SUBJECTS.keys() == set(TABLES)
    assert FIGURE_SUBJECTS.keys() == set(figure_names(plan)) >= set(FIGURES)
    assert all(subject_of(file) for file in report_files(plan))


@pytest.mark.parametrize("name", [*TABLE_SUBJECTS, *FIGURE_SUBJECTS, "p1_ade20k", "p1_sun397", "p1_mit67", "p1_alpha"])
def test_readme_of_the_tables_lists_it(name):
    assert f"`{name}`" in README


def test_published_tables_and_optional_figures_depend_on_the_plan(made_up):
    least = made_up().plan()
    assert (table_names(least), figure_names(least)) == (TABLES, FIGURES)
    more = made_up(experiment="more", **EVERYTHING).plan()
    assert set(table_names(more)) - set(TABLES) == {"p1_ade20k", "p1_mit67", "p1_alpha"}
    assert set(figure_names(more)) - set(FIGURES) == {"critical_difference", "weight_ablation"}
