"""Object polygons of MiniPlaces: a small tree in the official layout, with what damaged and hostile copies hold."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dctkd.data.annotations import read_annotations
from dctkd.data.cache import PixelCache
from dctkd.data.formats.miniplaces_objects import annotation_path
from dctkd.data.polygons import Outlines, Polygon, draw_resized
from dctkd.data.prepare import prepare

SQUARE = [(11, 11), (20, 11), (20, 20), (11, 20)]
"""Corners, counted from 1: the pixels 10 to 19, counted from 0."""
CATEGORIES = ["sofa 0", " Cup\t1", "wall 2", "SKY 3"]
"""Ids sorted by name: background 0, cup 1, sky 2, sofa 3, wall 4."""
ENTITY_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<filename>&b;</filename><class>0</class>"
)


def polygon(points):
    return "<polygon>" + "".join(f"<pt>\n<x>{x}</x><y>{y}</y></pt>" for x, y in points) + "</polygon>"


def thing(category=0, points=SQUARE, extra=""):
    return f"<objects>\n\t<class>{category}</class>{polygon(points)}{extra}</objects>\n"


def annotation(*things, label=0):
    return f"<filename>35108662.jpg</filename>\n<folder>/a/abbey</folder>\n<class>{label}</class>\n{''.join(things)}"


@pytest.fixture
def root(tmp_path, make_miniplaces):
    """Validation image i has class i modulo 3; the first is 80 rows by 100 columns."""
    root = make_miniplaces(tmp_path / "data", num_train=1)
    for index in range(6):
        path = root / f"images/val/{index + 1:08d}.jpg"
        Image.new("RGB", (100, 80), (10, 40 * index, 90)).save(path, "JPEG")
    (root / "object_categories.txt").write_text("\n".join(CATEGORIES) + "\n")
    (root / "objects/val").mkdir(parents=True)
    return root


@pytest.fixture
def write(root):
    def write(text, number=1):
        path = root / f"objects/val/{number:08d}.xml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


@pytest.fixture
def read(tmp_path, root):
    def read(*, short_side=None, crop=64, options=None, at=root):
        target = tmp_path / f"cache{short_side}"
        cache = prepare("miniplaces", options or {}, root, short_side, "fail", target, workers=1)
        return read_annotations(cache, format_name="miniplaces", options=options or {}, root=at, crop=crop)

    return read


def box(mask):
    """First and last row and column that are not background."""
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_corners_are_counted_from_one_and_belong_to_the_object(read, write):
    write(annotation(thing()))
    expected = np.zeros((80, 80), dtype=int)
    expected[10:20, 0:10] = 3  # a crop of 80 of 100 columns starts at column 10
    np.testing.assert_array_equal(read(crop=80).mask(0), expected)


def test_the_whole_image_as_an_object_leaves_no_border(read, write):
    write(annotation(thing(points=[(1, 1), (1, 80), (100, 80), (100, 1)])))
    assert (read(short_side=150, crop=150).mask(0) == 3).all()


@pytest.mark.parametrize("size", [(33, 41), (40, 40), (77, 96), (120, 149), (200, 249)])
def test_masks_are_resized_as_pil_resizes_to_the_nearest_pixel(size):
    corners = [(2, 69), (29, 4), (96, 21), (54, 77), (39, 40)]
    canvas = Image.new("L", (101, 81))  # odd sizes: no centre lies between two pixels, where PIL's rounding decides
    ImageDraw.Draw(canvas).polygon(corners, fill=3)
    expected = np.asarray(canvas.resize(size[::-1], Image.Resampling.NEAREST))
    outlines = Outlines(81, 101, (Polygon(3, np.array(corners, dtype=float)),))
    np.testing.assert_array_equal(draw_resized(outlines, *size), expected)


def test_rows_and_columns_are_scaled_each_by_its_own_factor():
    square = Polygon(5, np.array([[20.0, 10.0], [39.0, 10.0], [39.0, 29.0], [20.0, 29.0]]))
    assert box(draw_resized(Outlines(80, 100, (square,)), 40, 200)) == (5, 14, 40, 79)


def test_a_mask_lies_where_the_photograph_shows_the_object(tmp_path, root, write):
    pixels = np.zeros((80, 100, 3), dtype=np.uint8)
    pixels[24:44, 50:90] = 255
    Image.fromarray(pixels).save(root / "images/val/00000001.jpg", "JPEG", quality=100)
    write(annotation(thing(points=[(51, 25), (90, 25), (90, 44), (51, 44)])))
    cache = prepare("miniplaces", {}, root, 40, "fail", tmp_path / "cache", workers=1)
    mask = read_annotations(cache, format_name="miniplaces", options={}, root=root, crop=32).mask(0)
    bright = cache.image("test", 0)[4:36, 9:41, 1] > 127
    np.testing.assert_array_equal(mask > 0, bright)


def test_the_smaller_object_is_in_front_in_either_order(read, write):
    wall, picture = thing(2, [(1, 1), (1, 80), (100, 80), (100, 1)]), thing(0)
    write(annotation(wall, picture), 1)
    write(annotation(picture, wall, label=1), 2)
    annotations = read(crop=80)
    assert [np.bincount(annotations.mask(index).ravel(), minlength=5).tolist() for index in (0, 1)] == [
        [0, 0, 0, 100, 6300]
    ] * 2


def test_the_later_of_two_equal_objects_is_in_front(read, write):
    write(annotation(thing(0), thing(1)))
    assert np.unique(read(crop=80).mask(0)).tolist() == [0, 1]


def test_ids_follow_the_sorted_names_in_lower_case(read, write):
    write(annotation(thing(3)))
    annotations = read(crop=80)
    assert annotations.names == ("background", "cup", "sky", "sofa", "wall")
    assert annotations.mask(0).max() == annotations.names.index("sky")


def test_ids_do_not_depend_on_which_objects_occur(read, write):
    write(annotation(thing(0)))
    assert read().names == ("background", "cup", "sky", "sofa", "wall")


def test_categories_of_one_name_share_an_id(root, read, write):
    (root / "object_categories.txt").write_text("cup 0\nCup  1\nbackground 2\n")
    write(annotation(thing(0), thing(1, [(41, 41), (50, 41), (50, 50), (41, 50)])))
    annotations = read(crop=80)
    assert annotations.names == ("background", "cup")
    assert (annotations.mask(0) == 1).sum() == 200


def test_no_object_is_said_to_decide_a_scene(read, write):
    write(annotation(thing()))
    annotations = read()
    assert [annotations.relevant_ids(label) for label in range(3)] == [frozenset()] * 3


def test_images_without_a_file_are_not_annotated(read, write):
    write(annotation(thing(), label=2), 3)
    annotations = read()
    assert [annotations.mask(index) is not None for index in range(6)] == [False, False, True, False, False, False]
    assert (annotations.num_annotated, annotations.problems) == (1, ())


def test_the_position_in_the_cache_counts_not_the_number_in_the_name(root, read, write, edit_list):
    edit_list(root / "val.txt", lambda lines: lines[::-1])
    write(annotation(thing(), label=2), 3)
    assert read().mask(3) is not None


def test_files_of_images_that_were_not_packed_are_ignored(read, write):
    write(annotation(thing(), label=2), 3)
    write(annotation(thing()), 4)
    write("<broken", 99)
    annotations = read(options={"num_classes": 2})
    assert annotations.num_annotated == 1
    assert annotations.mask(2) is not None  # images 1, 2, 4 and 5 are left
    assert annotations.problems == ()


def test_deleted_objects_are_ignored(read, write):
    write(annotation(thing(0, extra="<deleted>0</deleted>"), thing(1, extra="<deleted> 1 </deleted>")))
    assert np.unique(read(crop=80).mask(0)).tolist() == [0, 3]


def test_what_lies_outside_the_image_is_cut_off(read, write):
    write(annotation(thing(points=[(61, -500), (60000, -500), (60000, 20), (61, 20)])))
    assert box(read(crop=80).mask(0)) == (0, 19, 50, 79)


def test_an_object_outside_the_crop_leaves_an_annotated_mask_of_background(read, write):
    write(annotation(thing(points=[(1, 1), (5, 1), (5, 5), (1, 5)])))
    annotations = read(crop=64)
    assert annotations.num_annotated == 1
    assert not annotations.mask(0).any()


BROKEN = {
    "not well-formed": annotation(thing())[:-12],
    "unclosed": annotation("<objects>"),
    "stray end": "</annotation><annotation>" + annotation(thing()),
    "no text at all": b"\x89PNG\r\n\x1a\n\x00\x00",
    "UTF-16": annotation(thing()).encode("utf-16"),
    "empty": "",
    "no objects": annotation(),
    "all deleted": annotation(thing(extra="<deleted>1</deleted>")),
    "entity bomb": ENTITY_BOMB + thing(),
    "disguised bomb": ENTITY_BOMB.replace("<?xml", "<a/><?xml") + thing(),
    "entity bomb in UTF-16": (ENTITY_BOMB + thing()).encode("utf-16"),
    "undefined entity": annotation(thing("&b;")),
    "outside entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>' + annotation(thing()),
    "unknown category": annotation(thing(), thing(4)),
    "category in words": annotation(thing("sofa")),
    "no category": annotation(f"<objects>{polygon(SQUARE)}</objects>"),
    "other class": annotation(thing(), label=1),
    "no polygon": annotation("<objects><class>0</class></objects>"),
    "two polygons": annotation(thing(extra=polygon(SQUARE))),
    "two points": annotation(thing(points=SQUARE[:2])),
    "missing coordinate": annotation(thing(points=[*SQUARE, (3, "")])),
    "coordinate in words": annotation(thing(points=[*SQUARE, (3, "four")])),
    "not a number": annotation(thing(points=[*SQUARE, (3, "nan")])),
    "endless": annotation(thing(points=[*SQUARE, (3, "1e300")])),
    "too large": annotation(thing(extra=" " * 2**22)),
    "too deep": "<a>" * 100_000,
    "deep": "<a>" * 100_000 + "</a>" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_left_out_and_listed(read, write, name):
    write(BROKEN[name])
    write(annotation(thing(), label=1), 2)
    annotations = read()
    assert annotations.mask(0) is None
    assert annotations.num_annotated == 1
    (problem,) = annotations.problems
    assert problem.startswith("objects/val/00000001.xml: ")


def test_a_bomb_is_refused_for_its_document_type(read, write):
    write(ENTITY_BOMB + thing())
    assert "it declares a document type or entities, which are not read" in read().problems[0]


def test_a_photograph_that_is_gone_is_listed(root, read, write):
    write(annotation(thing()))
    read()
    (root / "images/val/00000001.jpg").rename(root / "away.jpg")
    cache = PixelCache.open(root.parent / "cacheNone")
    annotations = read_annotations(cache, format_name="miniplaces", options={}, root=root, crop=64)
    assert annotations.num_annotated == 0
    assert annotations.problems[0].startswith("objects/val/00000001.xml: ")


def test_a_declaration_an_enclosing_element_and_latin_letters_change_nothing(read, write):
    write(annotation(thing()))
    expected = read().mask(0)
    text = f"<annotation>{annotation(thing())}<scenedescription>Z\xfcrich</scenedescription></annotation>"
    write(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n' + text.encode("latin-1"))
    np.testing.assert_array_equal(read().mask(0), expected)


def test_without_the_folder_there_are_no_annotations(root, read):
    (root / "objects/val").rmdir()
    (root / "objects").rmdir()
    assert read() is None


@pytest.mark.parametrize("at", ["nowhere", "cacheNone", None])
def test_without_the_photographs_there_are_no_annotations(tmp_path, read, at):
    assert read(at=at and tmp_path / at) is None


def test_without_the_categories_no_image_is_annotated_and_a_problem_says_why(root, read, write):
    write(annotation(thing()))
    (root / "object_categories.txt").unlink()
    annotations = read()
    assert (annotations.num_annotated, annotations.mask(0)) == (0, None)
    assert "no object_categories.txt; put it beside train.txt" in annotations.problems[0]


@pytest.mark.parametrize("lines", ["sofa 0\ncup 0\n", "sofa\n"])
def test_categories_that_cannot_be_read_are_a_problem(root, read, lines):
    (root / "object_categories.txt").write_text(lines)
    assert "mend the list" in read().problems[0]


@pytest.mark.parametrize("folder", ["data/development_kit/data", "development_kit/data", ".", "lists"])
def test_categories_lie_where_the_other_lists_may(tmp_path, root, read, write, folder):
    write(annotation(thing()))
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (root / "object_categories.txt").rename(tmp_path / folder / "object_categories.txt")
    assert read(at=tmp_path).num_annotated == 1


def test_the_paths_are_those_of_the_official_readme():
    # "images/train/a/abbey/00000001.jpg will have its object annotations located at objects/train/a/abbey/00000001.xml"
    assert annotation_path("train/a/abbey/00000001.jpg") == "objects/train/a/abbey/00000001.xml"
    assert annotation_path("val/00004989.jpg") == "objects/val/00004989.xml"


def test_an_extension_in_capitals_is_replaced_too():
    assert annotation_path("val/b.c/HOLIDAY.x.JPG") == "objects/val/b.c/HOLIDAY.x.xml"


def test_walls_and_sky_are_annotated_but_are_no_objects(read, write):
    write(annotation(thing()))
    annotations = read()
    assert annotations.names == ("background", "cup", "sky", "sofa", "wall")
    assert annotations.object_ids() == {1, 3}
