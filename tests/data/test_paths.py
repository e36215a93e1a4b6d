"""Many paths in one array: what goes in comes out, in little memory."""

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetx.data.formats.paths import Names, Paths


@given(st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name)))
def test_names_of_any_bytes_come_out_as_they_went_in(names):
    names = [os.fsdecode(name) for name in names]
    kept = Names(names)
    assert list(kept) == kept[:] == names
    assert kept[1:-1:2] == names[1:-1:2]
    assert len(kept) == len(names)
    assert (Names(names).digest() == Names(names[::-1]).digest()) == (names == names[::-1])


def test_where_one_name_ends_and_the_next_begins_is_part_of_the_digest():
    assert Names(["ab", "c"]).digest() != Names(["a", "bc"]).digest()


def test_paths_are_below_their_root_and_cost_no_object_each():
    names = [f"person_{i // 10:05d}/{i:07d}.jpg" for i in range(10_000)]
    paths = Paths("/faces", names)
    assert paths[-1] == Path("/faces") / names[-1]
    assert paths[2:4] == [Path("/faces") / name for name in names[2:4]]
    assert len(pickle.dumps(paths)) < sum(map(len, names)) + 8 * len(names) + 1000
    assert Paths.of([Path("/x/y.png"), "z.png"])[:] == [Path("/x/y.png"), Path("z.png")]
    with pytest.raises(IndexError):
        paths[10_000]
