"""C5: five outputs are paired with four targets, so the pooled one is compared with nothing."""

STUDENT_OUTPUTS = ["stage1", "stage2", "stage3", "stage4", "pooled"]
TEACHER_FEATURES = ["stem", "stage1", "stage2", "stage3", "stage4", "pooled"]


def pairs(outputs, features, guide_layers):
    return list(zip(outputs, [features[layer] for layer in guide_layers], strict=False))


def test_pooled_output_of_resnet34_to_resnet18_is_compared_with_nothing():
    compared = pairs(STUDENT_OUTPUTS, TEACHER_FEATURES, [1, 2, 3, 4])
    assert compared == [(name, name) for name in STUDENT_OUTPUTS[:4]]


def test_five_guide_layers_compare_all_five():
    compared = pairs(STUDENT_OUTPUTS, TEACHER_FEATURES, [1, 2, 3, 4, 5])
    assert compared == [(name, name) for name in STUDENT_OUTPUTS]


def test_networks_of_cifar_100_have_four_outputs_and_four_targets():
    outputs, features = ["stage1", "stage2", "stage3", "pooled"], ["stem", "stage1", "stage2", "stage3", "pooled"]
    assert pairs(outputs, features, [1, 2, 3, 4]) == [(name, name) for name in outputs]
