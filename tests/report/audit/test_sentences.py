"""What is said of effects: shown or not, with the interval; never more than the test says."""

from dctkd.report.audit.effects import Effect
from dctkd.report.audit.sentences import verdict
from dctkd.report.statistics import summarise


def effect(label, differences, p):
    return Effect(label, None, None, summarise(differences), p)


SMALL = effect("DCT minus maps", [0.1, -0.4, 0.6], 0.8)
LARGE = effect("DCT minus KD", [-5.0, -5.2, -4.9], 0.001)
LARGER = effect("DCT minus AT", [9.0, 9.2, 8.9], 0.02)


def test_no_effect_is_said_with_the_interval_of_the_main_comparison():
    assert verdict([SMALL]) == (
        "No effect is shown: DCT minus maps: +0.10 points (95 % interval -1.14 to +1.34, n = 3)."
    )


def test_others_without_effect_are_counted():
    assert verdict([SMALL, SMALL]).endswith("n = 3), nor in the other comparison.")
    assert verdict([SMALL] * 3).endswith("n = 3), nor in the other 2 comparisons.")


def test_an_effect_is_said_with_its_sign():
    assert verdict([LARGE]).startswith("An effect is shown: DCT minus KD: -5.03 points (95 % interval -5.")


def test_of_several_effects_the_largest_is_told_and_all_are_counted():
    assert verdict([LARGE, SMALL, LARGER]) == (
        "An effect is shown in 2 of 3 comparisons, the largest in DCT minus AT: +9.03 points (95 % interval +8.65 to "
        "+9.41, n = 3)."
    )


def test_effects_elsewhere_do_not_hide_that_the_main_comparison_has_none():
    assert verdict([SMALL, LARGE]).endswith(
        "; none in the first, DCT minus maps: +0.10 points (95 % interval -1.14 to +1.34, n = 3)."
    )


def test_one_seed_makes_no_test():
    assert verdict([effect("DCT minus maps", [1.0], None)]) == (
        "No test is possible: DCT minus maps: +1.00 points (no interval, n = 1)."
    )


def test_what_is_not_measured_says_why():
    assert verdict([], not_measured="a crash has no accuracy") == "Not measured by training: a crash has no accuracy."
    assert verdict([Effect("DCT minus maps", None, None, None)]) == "No run is finished."


def test_equal_runs_are_said_to_be_equal():
    assert verdict([effect("filter minus none", [0.0, 0.0, 0.0], 1.0)]) == (
        "No effect at all: filter minus none: equal accuracy in all 3 runs."
    )


def test_runs_that_diverged_are_told_where_there_is_nothing_to_compare():
    gone = Effect("working minus frozen", None, None, None, failed=("", "3 div."))
    assert verdict([gone]) == "No comparison is possible: working minus frozen: of b 3 diverged."


def test_runs_that_diverged_are_told_beside_what_was_measured():
    half = Effect("at the published weight", None, None, None, failed=("", "3 div."))
    assert verdict([half, SMALL]).endswith("n = 3); runs without accuracy, at the published weight: of b 3 diverged.")
