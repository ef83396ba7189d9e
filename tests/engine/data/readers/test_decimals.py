"""Reading numbers from text: every bit is what ``float`` gives, whatever the number looks like."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.readers.decimals import NotANumber, Text, plain_float


def read(tokens):
    data = b" ".join(tokens) + b"\n"
    ends = np.cumsum([len(token) + 1 for token in tokens]) - 1
    return Text(data).floats(ends - [len(token) for token in tokens], ends)


def bits(value):
    return struct.pack("<d", value)


FORMS = st.one_of(
    st.from_regex(r"-?[0-9]\.[0-9]{1,18}", fullmatch=True),
    st.from_regex(r"[-+]?[0-9]{0,12}\.?[0-9]{1,20}([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.floats(allow_nan=False).map(repr),
    st.floats(-10, 10).map(lambda v: f"{v:.7g}"),
    st.floats(-10, 10).map(lambda v: f"{v:.6f}"),
    st.sampled_from(["0", "-0", "-0.0", "1.", "5.", ".5", "-.5", "inf", "-Infinity", "0.00000001", "9.99999999999999"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FORMS, min_size=1, max_size=40))
def test_bits_of_float(tokens):
    values = read([token.encode() for token in tokens])
    assert [bits(v) for v in values] == [bits(float(token)) for token in tokens]


def test_many_numbers_as_the_sensor_writes_them():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, scale, 4000) for scale in (1e-5, 1e-2, 1, 4, 60)])
    for form in ("{:.7g}", "{:.6f}", "{:.9g}", "{:.14f}", "{:.17g}"):
        tokens = [form.format(v).encode() for v in values]
        expected = np.array([float(token) for token in tokens])
        assert read(tokens).tobytes() == expected.tobytes()
        # And through float32, as arrays are kept: rounding twice must be the same rounding twice.
        assert read(tokens).astype(np.float32).tobytes() == np.array([np.float32(float(t)) for t in tokens]).tobytes()


def test_nan_and_what_is_no_number():
    assert np.isnan(read([b"NaN", b"nan", b"-NaN"])).all()
    for bad in (b"1_0", b"0.1a", b"a.12345678", b"--0.5", b"0.5-", b"0.1.2", b"0x1p3", b"\xff.5", b"1" * 70, b"-"):
        with pytest.raises(NotANumber) as caught:
            read([b"0.5", bad, b"0.25"])
        assert caught.value.index == 1 and plain_float(bad) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=24).filter(lambda token: not any(c <= 32 for c in token)))
def test_any_bytes_are_judged_as_by_the_plain_reader(token):
    value = plain_float(token)
    if value is None:
        with pytest.raises(NotANumber):
            read([token])
    else:
        assert bits(read([token])[0]) == bits(value) or value != value
