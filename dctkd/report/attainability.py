"""Whether a published accuracy can be an accuracy at all: some whole number of right images must round to it.

Exact integers throughout; what counts is the text of a number, for its digits say how it was rounded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Examination:
    """What the check says of some published accuracies of one test set, and how much it can say there.

    Attributes:
        num_values: Number of values that were examined.
        impossible: Those that no number of right images gives, as published, in their order.
        num_possible_by_chance: How many would be possible on average if every number with as many digits were equally
            likely; close to `num_values` where the check says little, equal to it where it says nothing.
    """

    num_values: int
    impossible: tuple[str, ...]
    num_possible_by_chance: Fraction

    @property
    def says_nothing(self) -> bool:
        """Whether every number with so few digits is possible."""
        return self.num_possible_by_chance == self.num_values


def examine(values: Sequence[str], num_images: int, *, batch_size: int | None = None) -> Examination:
    """Return which published accuracies no number of right images gives, and how many would be possible by chance.

    A mean of several runs is not k / N of one test set: do not examine such values, or say so.

    Args:
        values: Published accuracies in percent, as text with their digits.
        num_images: Number N of test images, at least 1.
        batch_size: Images per batch of the released meter, as in `is_attainable_by_released_meter`; None: the accuracy.

    Raises:
        ValueError: If a value is no plain decimal number, or a count is below 1.

    Example:
        >>> examine(["40.95", "58.34"], 2000).impossible
        ('58.34',)
    """
    batch_size = num_images if batch_size is None else batch_size
    impossible = tuple(v for v in values if not is_attainable_by_released_meter(v, num_images, batch_size))
    shares = (attainable_share(num_images, decimals_of(v), batch_size=batch_size) for v in values)
    return Examination(len(values), impossible, sum(shares, start=Fraction(0)))


def is_attainable(text: str, num_images: int) -> bool:
    """Return whether some number of right images gives an accuracy that is rounded to the value.

    A value half-way between two roundings counts for both. The check has no power where 100 / `num_images` is not
    larger than the rounding step: then every value is attainable.

    Args:
        text: Published accuracy in percent, as text with its digits.
        num_images: Number N of test images, at least 1; accuracy is 100 k / N for a whole k.

    Raises:
        ValueError: As in `examine`.

    Example:
        >>> is_attainable("40.95", 2000), is_attainable("58.34", 2000)
        (True, False)
    """
    return is_attainable_by_released_meter(text, num_images, num_images)


def is_attainable_by_released_meter(text: str, num_images: int, batch_size: int) -> bool:
    """Return whether some numbers of right images give P1's released meter a mean that is rounded to the value.

    With a right images in the full batches and b in the last, shorter one of L images, the mean over m batches is
    100 / m * (a / `batch_size` + b / L).

    Args:
        text: Published accuracy in percent, as text with its digits.
        num_images: Number N of test images, at least 1.
        batch_size: Images per full batch, at least 1.

    Raises:
        ValueError: As in `examine`.

    Source:
        github.com/alexlopezcifuentes/Distillation-Attention, evaluateCNNs.py, lines 141-146, commit 3d70d15.

    Example:
        >>> is_attainable_by_released_meter("58.34", 2000, 256)
        True
    """
    if num_images < 1 or batch_size < 1:
        raise ValueError(f"expected at least 1 image and 1 per batch, got {num_images} and {batch_size}")
    decimals = decimals_of(text)
    return _is_attainable(int(text.replace(".", "")), decimals, num_images, batch_size)


@functools.cache
def attainable_share(num_images: int, decimals: int, *, batch_size: int | None = None) -> Fraction:
    """Return the share of all numbers from 0 to 100 with so many digits that are attainable; 1: the check says nothing.

    Args:
        num_images: Number N of test images, at least 1.
        decimals: Digits after the point.
        batch_size: As in `examine`.

    Example:
        >>> attainable_share(50, 1)
        Fraction(51, 1001)
    """
    batch_size = num_images if batch_size is None else batch_size
    num_numbers = 100 * 10**decimals + 1
    num_attainable = sum(_is_attainable(units, decimals, num_images, batch_size) for units in range(num_numbers))
    return Fraction(num_attainable, num_numbers)


def decimals_of(text: str) -> int:
    """Return the digits after the point of a number as it is written.

    Raises:
        ValueError: If the text is no plain decimal number, such as 58.30.

    Example:
        >>> decimals_of("58.30"), decimals_of("58")
        (2, 0)
    """
    whole, _, digits = text.partition(".")
    if not (whole.isdecimal() and (digits.isdecimal() or not digits)):
        raise ValueError(f"expected a percentage as plain decimal text, such as 58.30; got {text!r}")
    return len(digits)


def _is_attainable(units: int, decimals: int, num_images: int, batch_size: int) -> bool:
    """Decide for the number `units` / 10^decimals, all terms multiplied by 2 * 10^decimals * m * batch_size * L."""
    num_full, num_last = divmod(num_images, batch_size)
    num_batches = num_full + (num_last > 0)
    last = max(num_last, 1)
    half_step = num_batches * batch_size * last
    per_image_in_full = 200 * 10**decimals * last
    per_image_in_last = 200 * 10**decimals * batch_size
    for right_in_last in range(num_last + 1):
        rest = 2 * units * half_step - right_in_last * per_image_in_last
        fewest = max(-((half_step - rest) // per_image_in_full), 0)
        most = min((rest + half_step) // per_image_in_full, num_full * batch_size)
        if fewest <= most:
            return True
    return False
