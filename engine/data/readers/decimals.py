"""Turns many decimal numbers of a text into floats at once, bit for bit what ``float`` makes of each of them.

Recordings are tens of gigabytes of text of the form ``-0.1705678``. A number with one digit before the point and at
most 14 after it is an integer below 2**53 divided by a power of ten of at most 10**14. Both are exact as float64 and
IEEE division rounds correctly, so the quotient is the float64 nearest to the decimal: the one ``float`` returns.
Eight digits are read by three multiplications. Numbers of any other form go through ``float`` one by one.
"""

from __future__ import annotations

import numpy as np

#: Numbers from here on count as infinite: nearly the end of float32.
LARGEST = 3e38
_MAX_DECIMALS = 14
_PAD = 16
_ZEROS = np.uint64(0x3030303030303030)
_CARRY = np.uint64(0x7676767676767676)
_HIGH = np.uint64(0x8080808080808080)
_PAIR = np.uint64(0x000000FF000000FF)
_HUNDREDS = np.uint64(100 + (1_000_000 << 32))
_ONES = np.uint64(1 + (10_000 << 32))
_POWERS = 10.0 ** np.arange(_MAX_DECIMALS + 1)


class Text:
    """A text whose numbers can be read by position.

    Parameters
    ----------
    data : bytes
        ASCII; anything else is found out when it is part of a number.
    """

    def __init__(self, data: bytes):
        # Eight bytes ending at any position can be fetched as one number: pad in front.
        padded = b" " * _PAD + data
        self.data = data
        self.bytes = np.frombuffer(padded, np.uint8)[_PAD:]
        self._words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))

    def floats(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """float64 values of the numbers at ``[start, end)``.

        Parameters
        ----------
        start, end : numpy.ndarray
            int64 ``(n,)``: byte positions of non-empty tokens.

        Raises
        ------
        NotANumber
            A token is no number; carries its place in ``start``.
        """
        text = self.bytes
        negative = text[start] == ord("-")
        lead = start + negative
        decimals = end - lead - 2
        last = len(text) - 1
        unit = text[np.minimum(lead, last)] - np.uint8(48)
        point = text[np.minimum(lead + 1, last)] == ord(".")
        regular = (unit <= 9) & point & (decimals >= 1) & (decimals <= _MAX_DECIMALS)
        decimals = np.where(regular, decimals, 1)
        low, fits = self._digits(end, np.minimum(decimals, 8))
        regular &= fits
        mantissa = low.astype(np.float64)
        scale = _POWERS[decimals]
        mantissa += unit * scale
        long = np.flatnonzero(decimals > 8)
        if len(long):
            high, fits = self._digits(end[long] - 8, decimals[long] - 8)
            # Below 2**53 every one of these sums is exact.
            mantissa[long] += high.astype(np.float64) * 1e8
            regular[long] &= fits
        values = mantissa / scale
        np.negative(values, out=values, where=negative)
        for i in np.flatnonzero(~regular):
            values[i] = self._any_float(int(i), int(start[i]), int(end[i]))
        return values

    def singles(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """float32 of the numbers, rounded from float64 as ``np.float32(float(token))`` does.

        Raises
        ------
        NotANumber
            Also for what float32 can't hold as a finite number.
        """
        values = self.floats(start, end)
        finite = np.abs(values) < LARGEST
        if not finite.all():
            raise NotANumber(int(np.argmin(finite)))
        return values.astype(np.float32)

    def _digits(self, end: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint64 of the 1..8 digits before ``end``, and whether all of them are digits."""
        words = self._words[end + (_PAD - 8)]
        words ^= _ZEROS
        # What stands before the digits is shifted out and comes back as leading zeros.
        shift = (64 - 8 * count).astype(np.uint64)
        words >>= shift
        words <<= shift
        fits = (((words + _CARRY) | words) & _HIGH) == 0
        words = words * np.uint64(10) + (words >> np.uint64(8))
        upper = (words >> np.uint64(16)) & _PAIR
        words &= _PAIR
        words *= _HUNDREDS
        upper *= _ONES
        words += upper
        words >>= np.uint64(32)
        return words, fits

    def _any_float(self, index: int, start: int, end: int) -> float:
        value = plain_float(self.data[start:end])
        if value is None:
            raise NotANumber(index)
        return value


class NotANumber(ValueError):
    """The token at ``index`` is no number."""

    def __init__(self, index: int):
        super().__init__(f"token {index} is not a finite number")
        self.index = index


def plain_float(token: bytes) -> float | None:
    """Value of one token (``nan`` and ``inf`` included), or None when it is no number."""
    # Python also takes 1_000, which no dataset writes, and hundreds of digits, which none needs.
    if b"_" in token or len(token) > 64:
        return None
    try:
        return float(token)
    except ValueError:
        return None
