import errno
import multiprocessing
import os
import random
import resource
import time
import warnings
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from saliency_sanity import _files as results
from saliency_sanity._files import ResultsError
from saliency_sanity.experiments.store import Store, UnusableResult

KEY = {"method": "TimesInput(Gradient())", "stage": "mixed_7c", "seed": 3, "images": ["a", "b"]}
ARRAYS = {"similarity": np.array([[0.25, np.nan], [-0.0, np.inf]]), "count": np.int64(2)}
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def same(ours, expected):
    """Whether two results are equal bit for bit."""
    return ours is not None and {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in ours.items()
    } == {name: (array.dtype, array.shape, array.tobytes()) for name, array in expected.items()}


def files(store):
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def damaged(store):
    return [path for path in files(store) if path.suffix == ".damaged"]


def alone(store):
    (path,) = files(store)
    return path


def never():
    raise AssertionError("computed again")


@pytest.mark.parametrize("dtype", [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (3, 4, 5)])
def test_arrays_come_back_bit_for_bit(store, dtype, shape):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    if dtype == "bool":
        content &= 1
    # Random bits hold infinities, numbers without full precision and NaN of many kinds.
    array = content.view(dtype).reshape(shape)
    store.put(KEY, {"x": array})
    ours = store.get(KEY)
    assert same(ours, {"x": array})
    ours["x"][...] = 1  # one's own to change


def test_every_nan_keeps_its_bits(store):
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], np.uint64)
    store.put(KEY, {"x": bits.view(np.float64)})
    np.testing.assert_array_equal(store.get(KEY)["x"].view(np.uint64), bits)


def test_memory_layout_and_byte_order_do_not_matter(store):
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    store.put(KEY, {"turned": array.T, "every second": array[:, ::2]})
    ours = store.get(KEY)
    np.testing.assert_array_equal(ours["turned"], array.T)
    np.testing.assert_array_equal(ours["every second"], array[:, ::2])
    assert ours["turned"].dtype == np.dtype("float32")


def test_nothing_is_kept_for_other_keys(store):
    store.put(KEY, ARRAYS)
    for other in ({}, KEY | {"seed": 4}, KEY | {"seed": 3.0}, KEY | {"images": ["b", "a"]}):
        assert store.get(other) is None
        assert other not in store
    assert same(store.get(KEY), ARRAYS)
    assert KEY in store
    assert same(Store(store.folder).get(KEY), ARRAYS)


def test_what_is_dropped_is_gone_and_nothing_else(store):
    other = KEY | {"seed": 4}
    for key in (KEY, other):
        store.put(key, ARRAYS)
    for _ in range(2):
        store.drop(KEY)
        assert KEY not in store
        assert same(store.get(other), ARRAYS)
    store.put(KEY, ARRAYS)
    assert same(store.get(KEY), ARRAYS)
    with pytest.raises(TypeError, match=r"key\['x'\] is ndarray"):
        store.drop({"x": np.zeros(2)})


def test_keys_differ_where_their_values_do_and_only_there(store):
    class Level(IntEnum):
        LOW = 1

    distinct = [
        {}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"a": []}, {"a": {}},
        {"a": [1]}, {"a": [[1]]}, {"a": "ü"}, {"a": "\\u00fc"}, {"a": '"'}, {"a": "\ud800"},
        {"a": 0.1 + 0.2}, {"a": 0.3}, {"a": {"b": 1}}, {"a.b": 1}, {"a": "x", "sha256": "0" * 64},
    ]  # fmt: skip
    for i, key in enumerate(distinct):
        store.put(key, {"i": np.array(i)})
    assert [int(store.get(key)["i"]) for key in distinct] == list(range(len(distinct)))
    for key, equal in [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": Level.LOW}),
        ({"a": (1, (2,))}, {"a": [1, [2]]}),
        ({"a": 0.5}, {"a": np.float64(0.5)}),
    ]:
        store.put(key, ARRAYS)
        assert same(store.get(equal), ARRAYS)


def test_the_file_can_be_read_by_others_and_says_what_it_is(store):
    store.put(KEY, ARRAYS)
    assert same(safetensors.numpy.load_file(alone(store)), ARRAYS)
    assert b"TimesInput(Gradient())" in alone(store).read_bytes()
    assert alone(store).parent.parent == store.folder


def test_a_result_is_computed_once_and_looks_the_same_afterwards(store):
    unsorted = {"b": np.zeros(2), "a": np.ones(3, np.int8), "c": np.float32(1)}
    first = store.compute(KEY, lambda: unsorted)
    second = store.compute(KEY, never)
    assert same(first, unsorted)
    assert same(second, unsorted)
    assert list(first) == list(second) == ["a", "b", "c"]
    assert same(store.put(KEY, ARRAYS), ARRAYS)
    assert same(store.compute(KEY, never), ARRAYS)


def test_an_empty_result_is_a_result(store):
    assert store.compute(KEY, dict) == {}
    assert store.compute(KEY, never) == {}


def test_a_failing_function_leaves_nothing(store):
    with pytest.raises(AssertionError, match="computed again"):
        store.compute(KEY, never)
    assert files(store) == []


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([1], TypeError, "a key is a mapping of names to values, not list"),
        ({"a": [0, {"b": float("nan")}]}, ValueError, r"key\['a'\]\[1\]\['b'\] is nan.*finite"),
        ({"a": float("-inf")}, ValueError, r"key\['a'\] is -inf"),
        ({"a": {1: 2}}, TypeError, r"key\['a'\] has the name 1; names in a key are text"),
        ({"a": (np.int64(1),)}, TypeError, r"key\['a'\]\[0\] is int64.*\.item\(\)"),
        ({"a": np.zeros(2)}, TypeError, r"key\['a'\] is ndarray"),
        ({"a": never}, TypeError, r"key\['a'\] is function.*repr"),
        ({"a": {1, 2}}, TypeError, r"key\['a'\] is set"),
        ({"a": b"x"}, TypeError, r"key\['a'\] is bytes"),
    ],
)
def test_what_no_key_can_hold_is_named_with_its_place(store, key, error, message):
    for use in (store.get, store.__contains__, lambda k: store.put(k, ARRAYS)):
        with pytest.raises(error, match=message):
            use(key)
    with pytest.raises(error, match=message):
        store.compute(key, never)
    assert files(store) == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros(2)], "a result is a mapping of names to arrays, not list"),
        ({"x": 0.5}, r"array 'x' is float; expected a NumPy array"),
        ({"x": [1, 2]}, "array 'x' is list"),
        ({"x": np.array([never])}, "array 'x' has dtype object"),
        ({"x": np.array(["text"])}, "array 'x' has dtype <U4"),
        ({"x": np.zeros(2, complex)}, "array 'x' has dtype complex128"),
        ({"x": np.zeros(2, "datetime64[s]")}, "array 'x' has dtype datetime64"),
        pytest.param(
            {"x": np.zeros(2, np.longdouble)},
            "array 'x' has dtype float",
            marks=pytest.mark.skipif(
                np.dtype("g").itemsize == 8, reason="long doubles are doubles"
            ),
        ),
        ({"x": np.ma.masked_array([1.0, 2.0], [True, False])}, "array 'x' is MaskedArray"),
        ({0: np.zeros(2)}, "array name 0"),
        ({"__metadata__": np.zeros(2)}, "array name '__metadata__'"),
    ],
)
def test_what_cannot_be_kept_is_named_and_changes_nothing(store, arrays, message):
    store.put(KEY, ARRAYS)
    with pytest.raises(TypeError, match=message):
        store.put(KEY, arrays)
    assert same(store.get(KEY), ARRAYS)
    assert len(files(store)) == 1


def found_damaged(store, path, content, said="unusable"):
    """Whether a file with this content is set aside whole, named, and counts as no result."""
    before = set(damaged(store))
    path.write_bytes(content)
    with pytest.warns(UnusableResult, match=said) as caught:
        found = store.get(KEY)
    (aside,) = set(damaged(store)) - before
    named = all(text in str(caught[0].message) for text in (str(path), aside.name, "recomputed"))
    whole = aside.read_bytes() == content
    aside.unlink()
    return found is None and named and whole and not path.exists() and caught[0].filename


def test_a_file_cut_at_any_length_is_found(store):
    store.put(KEY, ARRAYS)
    path = alone(store)
    whole = path.read_bytes()
    for length in range(len(whole)):
        assert found_damaged(store, path, whole[:length]), length
    assert found_damaged(store, path, whole + b"\0")
    path.write_bytes(whole)
    assert same(store.get(KEY), ARRAYS)


def test_every_bit_that_flips_is_found(store):
    store.put(KEY, {"x": np.array([0.5], np.float16)})
    path = alone(store)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        assert found_damaged(store, path, bytes(altered)), bit


def test_foreign_files_are_found(store):
    store.put(KEY, ARRAYS)
    path = alone(store)
    foreign = {
        "empty": b"",
        "text": b"my notes\n" * 100,
        "safetensors": safetensors.numpy.save({"x": np.zeros(3)}),
        "safetensors with a key": safetensors.numpy.save({"x": np.zeros(3)}, {"key": "{}"}),
    }
    for content in foreign.values():
        assert found_damaged(store, path, content, "does not begin as a result does") == __file__


def test_the_result_of_another_key_is_not_taken(store):
    store.put(KEY, ARRAYS)
    path = alone(store)
    store.put(KEY | {"seed": 4}, {"x": np.zeros(3)})
    (other,) = set(files(store)) - {path}
    assert found_damaged(store, path, other.read_bytes(), "the result of another key") == __file__


def test_what_was_set_aside_is_computed_again_and_kept_every_time(store):
    store.put(KEY, ARRAYS)
    path = alone(store)
    for i in range(3):
        path.write_text(f"mine {i}")
        with pytest.warns(UnusableResult) as caught:
            assert same(store.compute(KEY, lambda: ARRAYS), ARRAYS)
        assert caught[0].filename == __file__
        assert same(store.compute(KEY, never), ARRAYS)
    assert sorted(aside.read_text() for aside in damaged(store)) == ["mine 0", "mine 1", "mine 2"]
    path.write_text("mine")
    with pytest.warns(UnusableResult):
        assert KEY not in store


def test_a_good_file_that_takes_a_damaged_ones_place_is_not_set_aside(store, monkeypatch):
    store.put(KEY, ARRAYS)
    path = alone(store)
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    rename = Path.rename

    def late(self, target):
        # Another process was quicker.
        path.write_bytes(whole)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(store.get(KEY), ARRAYS)
    assert files(store) == [path]


def test_a_damaged_file_that_another_process_set_aside_is_no_fault(store, monkeypatch):
    store.put(KEY, ARRAYS)
    path = alone(store)
    path.write_bytes(b"damaged")
    rename = Path.rename

    def late(self, target):
        path.unlink(missing_ok=True)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) is None


def test_a_file_that_cannot_be_read_or_moved_is_an_error_not_a_missing_result(store, monkeypatch):
    store.put(KEY, ARRAYS)
    path = alone(store)

    def refused(self, *arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        with pytest.raises(ResultsError, match=r"cannot read the result.*Input/output error"):
            store.compute(KEY, never)
    path.write_bytes(b"damaged")
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(ResultsError, match=r"unusable.*cannot be set aside: Input/output error"):
        store.compute(KEY, never)


def no_room(handle):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_and_leaves_the_old_result(store, monkeypatch):
    store.put(KEY, ARRAYS)
    monkeypatch.setattr(results.os, "fsync", no_room)
    for key in (KEY, KEY | {"seed": 4}):
        with pytest.raises(ResultsError, match="No space left on device") as caught:
            store.put(key, {"x": np.zeros(3)})
        assert caught.value.errno == errno.ENOSPC
    assert len(files(store)) == 1
    assert same(store.get(KEY), ARRAYS)


def test_a_write_that_stops_half_way_leaves_the_old_result(store):
    store.put(KEY, ARRAYS)
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, most))
    try:
        with pytest.raises(ResultsError, match="File too large"):
            store.put(KEY, {"x": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert len(files(store)) == 1
    assert same(store.get(KEY), ARRAYS)


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "store").write_text("mine")
    with pytest.raises(ResultsError, match="is a file, not a folder"):
        Store(tmp_path / "store")


def test_only_old_temporary_files_are_swept(store):
    store.put(KEY, ARRAYS)
    path = alone(store)
    young, old = (path.with_name(f".{path.name}.{age}.tmp") for age in ("young", "old"))
    for temporary in (young, old):
        temporary.write_bytes(b"half")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    os.utime(path, (0, 0))
    assert same(Store(store.folder).get(KEY), ARRAYS)
    assert set(files(store)) == {path, young}


def numbered(i):
    return {"i": i % 7}, {"x": np.full(4000, i % 7, np.float64), "y": np.array(i % 7)}


def write_forever(folder, start, begun):
    store = Store(folder)
    for i in range(start, 10**9):
        store.put(*numbered(i))
        begun.set()


def killed(folder, start, seconds):
    """Kill a process that writes results, with SIGKILL, so many seconds after its first one."""
    begun = FORK.Event()
    writer = FORK.Process(target=write_forever, args=(folder, start, begun))
    writer.start()
    assert begun.wait(60)
    time.sleep(seconds)
    writer.kill()
    writer.join()
    assert writer.exitcode == -9


def test_killed_writers_leave_whole_results_or_none(store):
    moments = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnusableResult)
        for start in range(25):
            killed(store.folder, start, 0.03 * moments.random())
            for i in range(7):
                key, expected = numbered(i)
                found = store.get(key)
                assert found is None or same(found, expected)
            assert numbered(start)[0] in store
    left = [path for path in files(store) if path.suffix != ".safetensors"]
    assert all(path.suffix == ".tmp" for path in left)
    for path in left:
        os.utime(path, (0, 0))
    Store(store.folder)
    assert all(path.suffix == ".safetensors" for path in files(store))


def write_until(folder, value, enough):
    store = Store(folder)
    while not enough.is_set():
        store.put(KEY, {"x": np.full(20_000, value), "y": np.array(value)})


def test_two_writers_of_one_key_and_a_reader_never_meet_halves(store):
    store.put(KEY, {"x": np.full(20_000, 0.0), "y": np.array(0.0)})
    enough = FORK.Event()
    writers = [
        FORK.Process(target=write_until, args=(store.folder, value, enough)) for value in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    seen = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnusableResult)
            while len(seen) < 500 or not {1.0, 2.0} <= set(seen):
                found = store.get(KEY)
                assert (found["x"] == found["y"]).all()
                seen.append(float(found["y"]))
                assert all(writer.is_alive() for writer in writers)
    finally:
        enough.set()
        for writer in writers:
            writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(files(store)) == 1
