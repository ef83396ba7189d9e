"""Opening other people's files: what is data is read exactly, what could run a program is refused and does not run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.bodies import RawDataError
from engine.data.safe_load import (
    PickleLimits,
    UnsafeFileError,
    find_npz,
    load_npy,
    load_npz,
    load_pickle,
    loads_pickle,
)

PROTOCOLS = range(6)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type, and for arrays dtype and shape."""
    if isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and np.array_equal(a, b, equal_nan=b.dtype.kind == "f")
        )
    if isinstance(b, np.generic):
        return bool(a == b.item())
    if isinstance(b, dict):
        return type(a) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in b)
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, bytes):
        return bytes(a) == b
    return type(a) is type(b) and (a == b or (a != a and b != b))


# What is accepted


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_label_tuple_and_arrays_at_every_protocol(protocol: int) -> None:
    labels = (["S001C001P001R001A001.skeleton", "ü"], [0, 59, -1, 2**40])
    assert loads_pickle(pickle.dumps(labels, protocol)) == labels
    keypoint = np.random.default_rng(0).normal(size=(2, 7, 25, 3)).astype(np.float16)
    for array in (keypoint, keypoint[:, ::2], np.asfortranarray(keypoint), keypoint.astype(">f4"), np.float64(3.5)):
        assert same(loads_pickle(pickle.dumps({"keypoint": array}, protocol)), {"keypoint": array})
    # The same array twice is one object in the file.
    twice = loads_pickle(pickle.dumps([keypoint, keypoint], protocol))
    assert same(twice, [keypoint, keypoint])


def test_files_of_old_numpy_and_python_2() -> None:
    array = np.arange(200, dtype=np.float32).reshape(2, 100)
    data = pickle.dumps(array, 2)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != data and same(loads_pickle(old), array)
    # Python 2 writes texts and the bytes of arrays as its own strings (opcodes S, T, U), here by hand.
    raw = array.tobytes()
    made = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02U\x01bq\x03\x87q\x04Rq\x05"
        b"(K\x01K\x02Kd\x86q\x06cnumpy\ndtype\nq\x07U\x02f4q\x08K\x00K\x01\x87q\x09Rq\x0a(K\x03U\x01<q\x0bNNNJ\xff\xff\xff"
        b"\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89T" + struct.pack("<i", len(raw)) + raw + b"q\x0dtq\x0eb."
    )
    assert same(loads_pickle(made), array)
    assert same(pickle.loads(made, encoding="latin1"), array)  # noqa: S301  (our own bytes)
    text = b"(lp0\nS'S001\\x41\\n\\xe9'\np1\naS\"it's\"\np2\naI5\naL7L\naF1.5\naI01\naNa."
    assert loads_pickle(text) == ["S001A\n\xe9", "it's", 5, 7, 1.5, True, None]


def test_dtype_classes_and_numpy_scalars() -> None:
    for protocol in (2, 4, 5):
        assert loads_pickle(pickle.dumps([np.int64(-3), np.float16(0.5), np.bool_(True)], protocol)) == [-3, 0.5, True]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=300)
    | st.binary(min_size=1, max_size=400),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_reads_plain_values_as_python_does(value: Any, protocol: int) -> None:
    assert same(loads_pickle(pickle.dumps(value, protocol)), value)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), max_size=4),
    code=st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u2", "?", ">f4", ">i2"]),
    fortran=st.booleans(),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_reads_arrays_as_numpy_does(shape: list[int], code: str, fortran: bool, protocol: int) -> None:
    array = np.random.default_rng(1).integers(0, 100, shape).astype(code)
    array = np.asfortranarray(array) if fortran else array
    assert same(loads_pickle(pickle.dumps([array], protocol)), [array])


# What is refused


class Calls:
    """Pickles to a call of any function with any arguments."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


class Sets:
    """Pickles to an object whose state is set after it was made."""

    def __init__(self, function: Any, args: tuple[Any, ...], state: Any) -> None:
        self.parts = (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def attacks(canary: Path) -> dict[str, Any]:
    code = f"open({str(canary)!r}, 'w').close()"
    shell = f'touch "{canary}"'
    return {
        "os.system": Calls(os.system, shell),
        "eval": Calls(eval, f"__import__('os').system({shell!r})"),
        "exec": Calls(exec, code),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "nested": [{"annotations": (1, [Calls(os.system, shell)])}],
        "inner call": Calls(print, Calls(os.system, shell)),
        "state": Sets(list, (), {"__setstate__": Calls(os.system, shell)}),
        "open": Calls(open, str(canary), "w"),
        "object array": np.array([Calls(os.system, shell), 1], dtype=object),
        "object scalar": np.array({"a": Calls(exec, code)}, dtype=object),
        "records": np.zeros(2, dtype=[("a", "f4")]),
        "subclass": np.ma.masked_array([1.0]),
        "bytearray": bytearray(b"x"),
        "set": {1, 2},
        "complex": 1j,
        "date": np.datetime64("2020-01-01"),
        "class": Path,
        "path": canary,
        "range": range(3),
        "integer keys": {1: 2},
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", attacks(Path("x")))
def test_attacks_are_refused_and_do_not_run(kind: str, protocol: int, canary: Path) -> None:
    data = pickle.dumps(attacks(canary)[kind], protocol)
    if kind == "bytearray" and protocol == 5:
        assert bytes(loads_pickle(data)) == b"x"  # plain bytes by another name
        return
    with pytest.raises(UnsafeFileError) as caught:
        loads_pickle(data, "stranger.pkl")
    assert "stranger.pkl" in str(caught.value)
    assert not canary.exists()


def test_the_message_says_what_was_wanted(canary: Path, tmp_path: Path) -> None:
    file = tmp_path / "ntu60_3danno.pkl"
    for function, words in ((os.system, ("system",)), (eval, ("eval",)), (exec, ("exec",))):
        file.write_bytes(pickle.dumps({"split": {}, "annotations": [Calls(function, "1")]}, 4))
        with pytest.raises(UnsafeFileError) as caught:
            load_pickle(file)
        assert str(file) in str(caught.value) and all(word in str(caught.value) for word in words)
    assert "posix.system" in refused(b"cposix\nsystem\n(S'true'\ntR.") or os.name != "posix"
    assert "INST" in refused(b"(S'true'\nios\nsystem\n.") and "os.system" in refused(b"(S'true'\nios\nsystem\n.")


def refused(data: bytes) -> str:
    with pytest.raises(UnsafeFileError) as caught:
        loads_pickle(data)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n.",
        b"c__builtin__\neval\n.",
        b"cbuiltins\ngetattr\n.",
        b"ccopyreg\n_reconstructor\n.",
        b"cfunctools\npartial\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"cnumpy.testing._private.utils\nrunstring\n.",
        b"cnumpy.dtypes\nObjectDType\n.",
        b"cnumpy.dtypes\nStringDType\n.",
        b"c_codecs\ndecode\n.",
        b"cnumpy\nndarray\n)R.",  # an allowed class, called
        b"cnumpy\nndarray\n}b.",  # an allowed class whose state is set
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"cnumpy\ndtype\n(VO8\ntR.",
        b"cnumpy\ndtype\n(V|O\ntR.",
        b"cnumpy\ndtype\n(VM8[ns]\ntR.",
        b"\x80\x02P1\n.",  # persistent ids
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x05\x97.",  # out-of-band buffer
        b"\x80\x02)\x81.",  # NEWOBJ
        b"(" * 200,
        b"\x8b\xff\xff\xff\x7f",  # an integer of two gigabytes
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_tricks_by_hand_are_refused(data: bytes) -> None:
    with pytest.raises(RawDataError):
        loads_pickle(data)


def array_pickle(shape: tuple[int, ...], raw: bytes) -> bytes:
    """A pickled float32 array whose shape and content need not fit."""
    data = pickle.dumps(np.zeros((3, 3), np.float32), 2)
    state = data[: data.index(b"K\x01K\x03K\x03\x86")]
    minus = b"J\xff\xff\xff\xff" * 2
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNN" + minus + b"K\x00tb"
    packed = pickle.dumps(shape, 2)[2:-1]
    return state + b"K\x01" + packed + dtype + b"\x89B" + struct.pack("<I", len(raw)) + raw + b"tb."


def test_declared_sizes_are_checked_before_anything_is_allocated() -> None:
    assert same(loads_pickle(array_pickle((2, 2), bytes(16))), np.zeros((2, 2), np.float32))
    for shape in ((10**6, 10**6), (2**62, 4), (2**70,), (3, 2), (-1, -4), (10**9,)):
        with pytest.raises(RawDataError):
            loads_pickle(array_pickle(shape, bytes(16)))
    for bomb in (
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),  # a byte string
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x",  # a text
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40),
        b"T" + struct.pack("<i", -5),
        b"B" + struct.pack("<I", 0xFFFFFFFF) + b"abc",
    ):
        with pytest.raises(RawDataError):
            loads_pickle(bomb)
    # Python's pickle machine allocates its memo by the highest index: 32 GB for this one. Here it is a dictionary.
    assert loads_pickle(b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_limits() -> None:
    limits = PickleLimits(steps=1000, items=100, array_bytes=64, file_bytes=10_000)
    assert loads_pickle(pickle.dumps([1] * 100, 2), limits=limits) == [1] * 100
    for value in ([1] * 101, tuple(range(101)), {str(i): 1 for i in range(101)}, [[1] * 90] * 200, np.zeros(9)):
        for protocol in (0, 2, 5):
            with pytest.raises(UnsafeFileError):
                loads_pickle(pickle.dumps(value, protocol), limits=limits)
    with pytest.raises(UnsafeFileError):
        loads_pickle(b"]" * 5000 + b".", limits=limits)


def test_file_size_and_broken_files(tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps(list(range(5000)), 2))
    with pytest.raises(UnsafeFileError, match="bytes"):
        load_pickle(file, PickleLimits(file_bytes=1000))
    file.write_bytes(b"")
    with pytest.raises(RawDataError, match="empty"):
        load_pickle(file)
    with pytest.raises(RawDataError, match="can't be read"):
        load_pickle(tmp_path / "absent.pkl")
    with pytest.raises(RawDataError, match="can't be read"):
        load_pickle(tmp_path)
    for junk in (b"\x00\x01\x02", b"PK\x03\x04", b"hello", b"\x80\x09.", b".", b"t.", b"e.", b"h\x05.", b"0", b"1."):
        file.write_bytes(junk)
        with pytest.raises(RawDataError) as caught:
            load_pickle(file)
        assert str(file) in str(caught.value)


def test_every_truncation_is_an_error() -> None:
    value = {"split": {"a": ["x"]}, "annotations": [{"keypoint": np.ones((1, 2, 25, 3), np.float16), "label": 3}]}
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(value, protocol)
        for cut in range(0, len(data), 7):
            with pytest.raises(RawDataError):
                loads_pickle(data[:cut])


def test_a_list_that_holds_itself_and_deep_nesting() -> None:
    round_list: list[Any] = []
    round_list.append(round_list)
    read = loads_pickle(pickle.dumps(round_list, 2))
    assert read[0] is read
    deep = loads_pickle(b")" + b"\x85" * 200_000 + b".")
    assert type(deep) is tuple


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], Path]:
    canary = tmp_path_factory.mktemp("fuzz") / "canary"
    value = (["a.skeleton", "b"], [1, 2.5], {"k": np.arange(6, dtype=np.float16).reshape(2, 3), "s": np.int64(4)})
    found = [pickle.dumps(value, protocol) for protocol in PROTOCOLS]
    found += [pickle.dumps(Calls(os.system, f'touch "{canary}"'), protocol) for protocol in PROTOCOLS]
    return found, canary


edits = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("rid"), st.integers(0, 255)), min_size=1, max_size=8)


def mutate(data: bytes, changes: list[tuple[float, str, int]]) -> bytes:
    """Bytes replaced, inserted or deleted at relative places."""
    out = bytearray(data)
    for place, kind, byte in changes:
        at = int(place * (len(out) - 1)) if out else 0
        out[at : at + (kind != "i")] = b"" if kind == "d" else bytes([byte])
    return bytes(out)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 11), changes=edits)
def test_mutated_pickles_only_raise_the_documented_errors(
    seeds: tuple[list[bytes], Path], which: int, changes: list[tuple[float, str, int]]
) -> None:
    found, canary = seeds
    try:
        loads_pickle(mutate(found[which], changes))
    except RawDataError:
        pass
    assert not canary.exists()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_only_raise_the_documented_errors(data: bytes) -> None:
    for head in (b"", b"\x80\x02", b"(", b"\x80\x04\x95" + bytes(8)):
        try:
            loads_pickle(head + data)
        except RawDataError:
            pass


def test_nothing_is_imported() -> None:
    for name in ("antigravity", "this", "idlelib"):
        sys.modules.pop(name, None)
        with pytest.raises(UnsafeFileError):
            loads_pickle(f"c{name}\nx\n.".encode())
        assert name not in sys.modules


# Arrays


def test_npy_is_mapped_and_object_arrays_are_refused(tmp_path: Path, canary: Path) -> None:
    file = tmp_path / "x.npy"
    for array in (np.arange(12, dtype=np.float32).reshape(3, 4), np.asfortranarray(np.ones((2, 3))), np.zeros((0, 3))):
        np.save(file, array)
        assert same(np.asarray(load_npy(file)), array)
    np.save(file, np.arange(10))
    mapped = load_npy(file)
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.save(file, np.array([Calls(os.system, f'touch "{canary}"')], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="Python objects"):
        load_npy(file)
    np.save(file, np.zeros(3, dtype=[("a", "f4"), ("b", "O")]))
    with pytest.raises(UnsafeFileError):
        load_npy(file)
    assert not canary.exists()


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_npy_headers_that_lie(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    good = npy_bytes(np.zeros((4, 4), np.float32))
    for old, new in (
        (b"(4, 4)", b"(9, 4)"),
        (b"(4, 4), }", b"(99999999999999999, 4), }"),
        (b"'<f4'", b"'<M8'"),
        (b"'<f4'", b"'O'  "),
        (b"'descr'", b"'descX'"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
        (b"{'descr'", b"__import__('os').system('true') #{'descr'"),
    ):
        file.write_bytes(good.replace(old, new))
        with pytest.raises(RawDataError) as caught:
            load_npy(file)
        assert str(file) in str(caught.value)
    for cut in range(0, len(good), 9):
        file.write_bytes(good[:cut])
        with pytest.raises(RawDataError):
            load_npy(file)


def test_npz_members_are_mapped_where_they_lie(tmp_path: Path) -> None:
    arrays = {
        "x_train": np.random.default_rng(0).normal(size=(5, 7, 6)).astype(np.float32),
        "y": np.eye(3),
        "n": np.array([b"a", b"bc"]),
    }
    plain_file, packed = tmp_path / "plain.npz", tmp_path / "packed.npz"
    np.savez(plain_file, **arrays)
    np.savez_compressed(packed, **arrays)
    for name, array in load_npz(plain_file).items():
        assert isinstance(array, np.memmap) and same(np.asarray(array), arrays[name])
    for name, array in load_npz(packed).items():
        assert not isinstance(array, np.memmap) and same(array, arrays[name])
    assert find_npz(plain_file)["x_train"].offset is not None and find_npz(packed)["x_train"].offset is None
    with pytest.raises(UnsafeFileError, match="compressed"):
        load_npz(packed, max_read=100)


def test_npz_attacks(tmp_path: Path, canary: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, a=np.array([Calls(os.system, f'touch "{canary}"')], dtype=object))
    with pytest.raises(UnsafeFileError, match=r"a\.npy"):
        load_npz(file)
    assert not canary.exists()
    # A small compressed member that claims to be huge.
    header = npy_bytes(np.zeros((4, 4), np.float32)).replace(b"(4, 4), }          ", b"(1000000, 10000), }")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header)
    with pytest.raises(RawDataError, match="cut short"):
        load_npz(file)
    # Deflated zeros: 4 MB of them in a few kB, read only up to the limit.
    np.savez_compressed(file, a=np.zeros(1_000_000, np.float32))
    with pytest.raises(UnsafeFileError):
        load_npz(file, max_read=1 << 20)
    for junk in (b"", b"PK\x05\x06" + bytes(18), b"not a zip"):
        file.write_bytes(junk)
        with pytest.raises(RawDataError) if junk[:2] != b"PK" else _nothing():
            assert load_npz(file) == {}


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits, packed=st.booleans())
def test_mutated_npz_only_raise_the_documented_errors(
    tmp_path: Path, changes: list[tuple[float, str, int]], packed: bool
) -> None:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, a=np.arange(20, dtype=np.float32), b=np.eye(2))
    file = tmp_path / "m.npz"
    file.write_bytes(mutate(stream.getvalue(), changes))
    try:
        load_npz(file)
    except RawDataError:
        pass


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits)
def test_mutated_npy_only_raise_the_documented_errors(tmp_path: Path, changes: list[tuple[float, str, int]]) -> None:
    file = tmp_path / "m.npy"
    file.write_bytes(mutate(npy_bytes(np.arange(20, dtype=np.float32).reshape(4, 5)), changes))
    try:
        load_npy(file)
    except RawDataError:
        pass
