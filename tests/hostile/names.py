"""Names that are legal on a file system and mean something to a shell, a page, a table, a spreadsheet or Snakemake."""

from tests.data.trees import save_photograph

CLASSES = (
    "$(touch pwned)",
    "; touch pwned #",
    "`touch pwned`",
    "-rf",
    "--help",
    "%s%n {params} {{x}} {0}",
    "<img src=x onerror=alert(1)>",
    "=HYPERLINK(1)",
    "a|b *c* _d_ [e](f)",
    "\\input{x} & $y$ # ~ ^",
    "'single' \"double\"",
    "x" * 240,
    "\u202e\u00e9\u2028\u6797",
)
FILES = ("$(touch pwned)", "-x", "; touch pwned", "<b>", "{input}", "a|b", "'\"", "%d", "=1+1", "\u00a0\u202f")


def write_hostile_images(root):
    """Write a training image or two of every class, and a test image."""
    for number, name in enumerate(CLASSES):
        for index, split in enumerate(("train", "train", "test")):
            file = f"{FILES[(number + index) % len(FILES)]}{index}.jpg"
            save_photograph(root / split / name / file, number)
    return root
