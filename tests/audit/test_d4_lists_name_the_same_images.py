"""D4: two lists that differ in their first folder and order alone are one list."""

from dctkd.data.check.list_overlap import compare_lists, read_image_list


def write_list(path, folder, scenes):
    path.write_text("".join(f"{folder}/{scene}/sun_{number}.jpg {number}\n" for number, scene in scenes))
    return read_image_list(path)


SCENES = list(enumerate(("abbey", "airfield", "alley", "arch")))


def test_lists_that_differ_in_the_first_folder_and_order_share_all_images(tmp_path):
    train = write_list(tmp_path / "train.txt", "train", SCENES)
    val = write_list(tmp_path / "val.txt", "val", SCENES[::-1])
    found = compare_lists(train, val)
    shared = {naming: row["num_shared"] / found["num_test"] for naming, row in found["by"].items()}
    assert (shared["path"], shared["path below the first folder"]) == (0, 1)
    assert (found["is_same_set"], found["is_same_order"]) == (True, False)


def test_lists_of_other_images_share_none(tmp_path):
    train = write_list(tmp_path / "train.txt", "train", SCENES[:2])
    val = write_list(tmp_path / "val.txt", "val", SCENES[2:])
    assert not compare_lists(train, val)["is_same_set"]
