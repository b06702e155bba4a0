"""D16: numbers of the README's tables that contradict each other or its text, read from the reported file."""

from tests.audit.published import number


def test_one_teacher_has_two_accuracies_on_sun397():
    teachers = [number("SUN397", "ResNet-50", student, "Teacher") for student in ("ResNet-18", "MobileNet-V2")]
    assert teachers == [61.69, 51.59]


def test_the_larger_baseline_is_ten_points_below_the_smaller_on_mit67():
    larger = number("MIT67", "ResNet-152", "ResNet-34", "Baseline")
    smaller = number("MIT67", "ResNet-50", "ResNet-18", "Baseline")
    assert (larger, smaller) == (38.84, 49.26)


def test_dct_is_not_the_best_row_everywhere():
    assert number("ADE20K", "ResNet-152", "ResNet-34", "CKD + KD") == 53.54
    assert number("ADE20K", "ResNet-152", "ResNet-34", "DCT (Ours) + KD") == 52.68
    assert number("SUN397", "ResNet-50", "MobileNet-V2", "CRD") == 43.56
    assert number("SUN397", "ResNet-50", "MobileNet-V2", "DCT (Ours)") == 43.16
