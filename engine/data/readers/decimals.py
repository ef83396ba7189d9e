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
# Two words of eight bytes are fetched before the end of a number.
_WORDS = 16
_CHUNK = 1 << 14
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
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        # The eight bytes from any position on as one number.
        self._words = np.ndarray((max(len(data) - 7, 0),), "<u8", data, strides=(1,))

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
        values = np.empty(len(start))
        if len(self.data) < _WORDS:
            for i, (a, b) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
                values[i] = self._any_float(i, a, b)
            return values
        # Intermediate arrays of 128 kB stay in the cache and need no fresh memory from the system.
        for at in range(0, len(start), _CHUNK):
            part = slice(at, at + _CHUNK)
            values[part] = self._floats(start[part], end[part], at)
        return values

    def singles(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """float32 of the numbers, rounded from float64 as ``np.float32(float(token))`` does.

        Raises
        ------
        NotANumber
            Also for what float32 can't hold as a finite number.
        """
        values = self.floats(start, end)
        if len(values) and not (values.max() < LARGEST and values.min() > -LARGEST):
            raise NotANumber(int(np.argmin(np.abs(values) < LARGEST)))
        return values.astype(np.float32)

    def _floats(self, start: np.ndarray, end: np.ndarray, at: int) -> np.ndarray:
        text = self.bytes
        negative = text[start] == ord("-")
        lead = start + negative
        decimals = end - lead - 2
        unit = text.take(lead, mode="clip") - np.uint8(48)
        point = text.take(lead + 1, mode="clip") == ord(".")
        regular = (unit <= 9) & point & (decimals >= 1) & (decimals <= _MAX_DECIMALS) & (end >= _WORDS)
        behind = end
        if not regular.all():
            # What is read in their place is thrown away below.
            decimals = np.where(regular, decimals, 1)
            behind = np.maximum(end, _WORDS)
        low, fits = self._digits(behind, np.minimum(decimals, 8))
        regular &= fits
        mantissa = low.astype(np.float64)
        scale = _POWERS[decimals]
        mantissa += unit * scale
        long = np.flatnonzero(decimals > 8)
        if len(long):
            high, fits = self._digits(behind[long] - 8, decimals[long] - 8)
            # Below 2**53 every one of these sums is exact.
            mantissa[long] += high.astype(np.float64) * 1e8
            regular[long] &= fits
        mantissa /= scale
        values = np.where(negative, -mantissa, mantissa)
        for i in np.flatnonzero(~regular):
            values[i] = self._any_float(at + int(i), int(start[i]), int(end[i]))
        return values

    def _digits(self, end: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint64 of the 1..8 digits before ``end``, and whether all of them are digits."""
        words = self._words[end - 8]
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
