"""The attention figures show every method and stage, and what is missing leaves a sentence instead of a traceback."""

import io

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from scipy import stats

from dctkd.report.attention import AttentionFiles
from dctkd.report.collect import gather
from dctkd.report.figures.attention import (
    ATTENTION_FIGURES,
    draw_accuracy_vs_overlap,
    draw_overlap_by_stage,
    draw_spectra,
    mean_spectra,
    overlap_gains,
)
from dctkd.report.figures.montage import draw_montage, make_montage, overlay_annotation
from dctkd.report.figures.mosaic import Mosaic
from dctkd.report.figures.style import METADATA
from dctkd.report.layout import TOP1, Group, Measure, Values
from tests.report.attention_files import STAGES, folder_of, write_all, write_maps, write_per_image, write_spectra

GROUP = Group("scenes", "wide__narrow")


def inputs(tree, *, partial=False):
    return gather(tree.folder, tree.store, partial=partial), AttentionFiles(tree.store)


def texts_of(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [label.get_text() for label in axes.get_yticklabels()]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return found


def pictures_of(axes):
    return [picture for mosaic in axes.artists if isinstance(mosaic, Mosaic) for picture in mosaic.pictures]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Return a tree with files of all runs, that no test changes."""
    from tests.report.conftest import MadeUp

    return write_all(MadeUp(tmp_path_factory.mktemp("full")).write())


@pytest.mark.parametrize("name", ATTENTION_FIGURES)
def test_figure_names_every_method_and_stage(full, name):
    words = " ".join(texts_of(ATTENTION_FIGURES[name](*inputs(full))))
    methods = [method for method in full.methods if (name, method) != ("accuracy_vs_overlap", "baseline")]
    stages = [] if name == "accuracy_vs_overlap" else STAGES
    assert [word for word in (*methods, *stages) if word not in words] == []


@pytest.mark.parametrize("name", sorted(set(ATTENTION_FIGURES) - {"montage"}))
def test_axes_have_labels(full, name):
    figure = ATTENTION_FIGURES[name](*inputs(full))
    assert figure.axes[0].get_ylabel()
    assert figure.axes[-1].get_xlabel() or figure.get_supxlabel()


@pytest.mark.parametrize("name", ATTENTION_FIGURES)
def test_experiment_without_any_run_gives_a_sentence(made_up, name):
    absent = frozenset((m, s) for m in ("baseline", "kd", "at", "at+kd", "teacher") for s in (0, 1, 2))
    figure = ATTENTION_FIGURES[name](*inputs(made_up(absent=absent), partial=True))
    figure.draw_without_rendering()
    assert figure.axes == []
    assert figure.texts[-1].get_text().startswith("No ")


@pytest.mark.parametrize("name", ["montage", "spectra"])
def test_runs_without_files_give_a_sentence_that_names_the_file(small, name):
    figure = ATTENTION_FIGURES[name](*inputs(small))
    assert "eval/overlap-1/" in figure.texts[-1].get_text()


@pytest.mark.parametrize("name", ATTENTION_FIGURES)
def test_some_missing_files_leave_the_others_to_draw(made_up, name):
    tree = write_all(made_up(), lacking=(("baseline", 0), ("kd", 1), ("at", 0), ("at", 1), ("at", 2)))
    figure = ATTENTION_FIGURES[name](*inputs(tree))
    figure.draw_without_rendering()
    assert figure.axes


@pytest.mark.parametrize("name", ATTENTION_FIGURES)
def test_drawing_again_gives_the_same_bytes(full, name):
    def drawn():
        buffer = io.BytesIO()
        ATTENTION_FIGURES[name](*inputs(full)).savefig(buffer, format="pdf", metadata=METADATA["pdf"])
        return buffer.getvalue()

    assert drawn() == drawn()


def test_montage_shows_the_picked_images_of_the_first_seed(made_up):
    tree = made_up(methods=("baseline", "kd"), seeds=(1, 2))
    first = {1: (0.5, 0.1), 3: (0.9, 0.9), 5: (0.2, 0.0), 7: (0.6, 0.6)}  # SSIM of baseline and kd
    for number, method in enumerate(("baseline", "kd")):
        values = {(index, stage): pair[number] for index, pair in first.items() for stage in STAGES}
        write_per_image(folder_of(tree, method, 1), values)
        write_maps(folder_of(tree, method, 1), list(first))
        write_per_image(folder_of(tree, method, 2), {(1, "stage1"): 1.0})
        write_maps(folder_of(tree, method, 2), [1])
    montage = make_montage(*inputs(tree))
    # Means: 0.3, 0.9, 0.1, 0.6. The median of four is the lower one of the middle two.
    assert montage.picked == {"best": 3, "median": 1, "worst": 5}
    assert montage.overlap == pytest.approx({1: 0.3, 3: 0.9, 5: 0.1, 7: 0.6})
    assert (montage.seed, montage.group) == (1, GROUP)
    words = texts_of(draw_montage(*inputs(tree)))
    assert "median: image val/00001.jpg, mean SSIM 0.30" in words
    assert words.count("0.50") == words.count("0.10") == 4


def test_montage_draws_a_panel_per_image_stage_and_network(full):
    axes = draw_montage(*inputs(full)).axes[0]
    words = [text.get_text() for text in axes.texts]
    panels, images, annotations, colour_bar = 3 * 4 * (1 + 4), 3, 3 - words.count("not annotated"), 1
    assert len(pictures_of(axes)) == panels + images + annotations + colour_bar


def test_montage_shows_the_maps_of_the_method_in_its_column(made_up):
    tree = made_up(methods=("baseline", "kd"), seeds=(0,))
    for look, method in ((0, "baseline"), (255, "kd")):
        write_per_image(folder_of(tree, method, 0), {(4, "stage1"): 0.5})
        write_maps(folder_of(tree, method, 0), [4], stages=("stage1",), sides=(2,), look=look)
    images = pictures_of(draw_montage(*inputs(tree)).axes[0])
    maps = [image for image in images if image.get_array().shape[:2] == (2, 2)][:3]
    left_to_right = sorted(maps, key=lambda image: image.get_extent()[0])
    red = [float(image.get_array()[0, 0, 0]) for image in left_to_right]
    # cividis runs from blue (no red) to yellow: baseline lowest, the teacher's 200 of 255 between, kd highest.
    assert red[1] < red[0] < red[2]


def test_montage_says_where_there_is_no_annotation(made_up):
    tree = made_up(methods=("kd",), seeds=(0,))
    write_per_image(folder_of(tree, "kd", 0), {(index, "stage1"): index / 10 for index in (1, 2, 3)})
    write_maps(folder_of(tree, "kd", 0), [1, 2, 3])  # the first, the worst one, is annotated
    words = texts_of(draw_montage(*inputs(tree)))
    assert words.count("not annotated") == 2


def test_annotation_is_tinted_inside_and_white_at_the_border():
    ids = np.zeros((5, 5), np.uint16)
    ids[1:4, 1:4] = 900
    colours = overlay_annotation(np.full((5, 5, 3), 51, np.uint8), ids)
    assert colours[0, 0] == pytest.approx([0.2] * 3)
    assert colours[1, 1].tolist() == [1.0, 1.0, 1.0]
    assert np.ptp(colours[2, 2]) > 0


def test_touching_objects_are_told_apart():
    ids = np.repeat(np.array([[3, 3, 3, 4, 4, 4]], np.uint16), 3, axis=0)
    colours = overlay_annotation(np.full((3, 6, 3), 51, np.uint8), ids)
    assert colours[1, 0].tolist() != colours[1, 5].tolist()
    assert colours[1, 2].tolist() == colours[1, 3].tolist() == [1.0, 1.0, 1.0]


def test_overlap_by_stage_has_a_point_at_each_mean(full):
    collected, attention = inputs(full)
    figure = draw_overlap_by_stage(collected, attention)
    values = Values(collected.frame)
    axes = next(axes for axes in figure.axes if axes.get_title() == "stage3")
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    means = [
        np.mean([p.value for p in values.of_seeds(GROUP, method, Measure("overlap_ssim", "stage3")).values()])
        for method in full.methods
    ]
    assert [bar.lines[0].get_xdata()[0] for bar in bars] == pytest.approx(means)


def test_many_groups_are_cut_and_the_title_says_so(wide):
    for draw, num_facets in ((draw_overlap_by_stage, 3 * 5), (draw_accuracy_vs_overlap, 3)):
        figure = draw(*inputs(wide))
        assert "the first 3 of 9 combinations" in figure.get_suptitle()
        assert len(figure.axes) == num_facets


def test_gains_are_over_the_baseline_of_the_same_seed(made_up):
    tree = made_up(failures={("baseline", 1): "diverged", ("at", 0): "oom"})
    values = Values(inputs(tree)[0].frame)
    gains = overlap_gains(values, GROUP, tuple(tree.methods))
    assert {method: len(points) for method, points in gains.items()} == {"kd": 2, "at": 1, "at+kd": 2}

    def number(method, measure):
        return values.of_seeds(GROUP, method, measure)[2].value

    ssim = Measure("overlap_ssim", "mean")
    assert gains["at"] == [
        (
            pytest.approx(number("at", ssim) - number("baseline", ssim)),
            pytest.approx(number("at", TOP1) - number("baseline", TOP1)),
        )
    ]


def test_correlation_on_the_figure_is_that_of_the_runs(full):
    collected, attention = inputs(full)
    gains = overlap_gains(Values(collected.frame), GROUP, tuple(full.methods))
    x, y = zip(*(point for points in gains.values() for point in points), strict=True)
    words = " ".join(texts_of(draw_accuracy_vs_overlap(collected, attention)))
    assert f"\u03c1 = {stats.spearmanr(x, y).statistic:+.2f} [".replace("-", "\u2212") in words
    assert "n = 9 runs" in words


def test_without_baseline_there_is_no_gain_to_draw(made_up):
    figure = draw_accuracy_vs_overlap(*inputs(made_up(methods=("kd", "at"))))
    assert "baseline" in figure.texts[-1].get_text()


def test_spectra_are_means_over_seeds(made_up):
    tree = made_up(seeds=(0, 1))
    for seed, value in ((0, 1.0), (1, 3.0)):
        write_spectra(folder_of(tree, "kd", seed), {"stage1": [0.0, value]}, {"stage1": [0.0, 4 * value]})
    students, teacher = mean_spectra(*inputs(tree), GROUP)
    assert {method: found["stage1"].tolist() for method, found in students.items()} == {"kd": [0.0, 2.0]}
    assert teacher["stage1"].tolist() == [0.0, 8.0]


def test_ratio_of_spectra_is_drawn_without_the_empty_first_bin(made_up):
    tree = made_up(seeds=(0,))
    write_spectra(folder_of(tree, "kd", 0), {"stage1": [1e-17, 2.0, 1.0]}, {"stage1": [1e-17, 4.0, 4.0]})
    top, bottom = draw_spectra(*inputs(tree)).axes
    (ratio,) = [line.get_ydata() for line in bottom.lines if len(line.get_ydata()) == 3]
    np.testing.assert_allclose(ratio, [np.nan, 0.5, 0.25])
    assert top.get_yscale() == "log"


def test_maps_of_another_size_than_the_teachers_have_a_spectrum_and_no_ratio(made_up):
    tree = made_up(seeds=(0,))
    write_spectra(folder_of(tree, "kd", 0), {"stage1": [0.0, 2.0, 1.0]}, {"stage1": [0.0, 4.0, 4.0, 1.0]})
    top, bottom = draw_spectra(*inputs(tree)).axes
    assert (len(top.lines), len(bottom.lines)) == (2, 1)


def test_controls_say_nothing_about_methods_and_are_left_out(full, monkeypatch):
    with_kd = texts_of(draw_accuracy_vs_overlap(*inputs(full)))
    monkeypatch.setattr("dctkd.report.figures.attention.CONTROLS", frozenset({"kd"}))
    without = texts_of(draw_accuracy_vs_overlap(*inputs(full)))
    assert "kd" in with_kd
    assert "kd" not in without


def test_a_stage_of_one_position_has_no_spectrum(made_up):
    tree = made_up(seeds=(0,))
    spectra = {"stage1": [0.0, 2.0, 1.0], "stage2": [0.0]}
    write_spectra(folder_of(tree, "kd", 0), spectra, spectra)
    words = texts_of(draw_spectra(*inputs(tree)))
    assert "stage1" in words
    assert "stage2" not in words
