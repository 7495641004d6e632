"""The digest of a folder of a user: the same as ever, so that nothing is made again."""

import hashlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from decur.artifacts.sources import contents

NAMES = st.sampled_from(["a", "a.b", "a-b", "A", "ab", "\u00e9", "z z", ".h", "manifest.json"])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map(tuple), st.integers(0, 9)))
def test_files_are_counted_and_named_by_a_digest(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("folder")
    made: dict[str, int] = {}
    for parts, size in files.items():
        path = root.joinpath(*parts)
        above = [Path(*parts[:depth]) for depth in range(1, len(parts))]
        if path.exists() or any((root / folder).is_file() for folder in above):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        made["/".join(parts)] = size
    made.pop("manifest.json", None)
    (root / ".decur").mkdir()
    (root / ".decur" / "ours").write_text("not counted")
    listed = sorted(made.items(), key=lambda file: file[0].split("/"))
    digest = hashlib.sha256(repr(listed).encode()).hexdigest()[:16]
    assert contents(root) == (len(listed), sum(made.values()), digest)
