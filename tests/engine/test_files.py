"""Files that belong together are replaced together."""

import pytest

from engine.files import replace_files


def test_if_one_can_not_be_written_none_is_replaced(tmp_path):
    first, second = tmp_path / "first", tmp_path / "missing" / "second"
    first.write_bytes(b"old")
    with pytest.raises(OSError) as caught:
        replace_files({first: b"new", second: b"new"})
    assert caught.value.filename == str(second) and caught.value.strerror
    assert first.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["first"]
    second.parent.mkdir()
    replace_files({first: b"new", second: bytearray(b"newer")})
    assert first.read_bytes() == b"new" and second.read_bytes() == b"newer"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first", "missing", "second"]
