import errno
import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from decur.artifacts.files import write_all
from decur.datasets import Archive, Part
from decur.download.unpack import unpack
from decur.errors import DecurError

RNG = np.random.default_rng(0)
FILES = {f"top/{i % 3}/{i}.bin": RNG.bytes(1000 + 517 * i) for i in range(40)} | {
    "top/empty": b"",
    "top/block": b"x" * 512,
    "top/" + "long/" * 40 + "name": b"y",
}
TAR = Archive((Part("a.tar.gz", ()),), "tar")
ZIP = Archive((Part("a.zip", ()),), "zip")


def packed(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A gzipped tar; a member given as TarInfo has no content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> dict[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return {name: info}


def write(folder: Path, body: bytes, name: str = "a.tar.gz", pieces: int = 1) -> list[Path]:
    """The archive, cut into pieces of unequal length."""
    cuts = [0, *sorted(RNG.integers(1, len(body), pieces - 1).tolist()), len(body)]
    paths = [folder / (name if pieces == 1 else f"{name}.{i}") for i in range(pieces)]
    for i, path in enumerate(paths):
        path.write_bytes(body[cuts[i] : cuts[i + 1]])
    return paths


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def zipped(members: dict[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_tar_is_read_over_its_parts(tmp_path, pieces):
    unpack(TAR, write(tmp_path, packed(FILES), pieces=pieces), tmp_path / "raw")
    assert tree(tmp_path / "raw") == FILES


def test_a_zip_is_unpacked(tmp_path):
    unpack(ZIP, write(tmp_path, zipped(FILES), "a.zip"), tmp_path / "raw")
    assert tree(tmp_path / "raw") == FILES


def test_a_plain_file_keeps_its_name(tmp_path):
    archive = Archive((Part("list.csv", ()),), "file", "splits")
    unpack(archive, write(tmp_path, b"a,b", "list.csv"), tmp_path / "raw")
    assert tree(tmp_path / "raw") == {"splits/list.csv": b"a,b"}


def test_leading_folders_are_stripped_and_replaced(tmp_path):
    archive = Archive(TAR.parts, "tar", "s1", strip=1)
    folder = special("other", tarfile.DIRTYPE) | special("other/empty", tarfile.DIRTYPE)
    unpack(archive, write(tmp_path, packed(folder | {"other/0/a": b"a"})), tmp_path / "raw")
    assert tree(tmp_path / "raw") == {"s1/0/a": b"a"}


@pytest.mark.parametrize("strip", [0, 1])
@pytest.mark.parametrize(
    "members",
    [
        {"/etc/passwd": b"x"},
        {"../up": b"x"},
        {"a/../../up": b"x"},
        {"a/../up": b"x"},
        {"..": b"x"},
        {"..\\up": b"x"},
        {"../two\nlines": b"x"},
        special("link", tarfile.SYMTYPE, "/etc"),
        special("link", tarfile.SYMTYPE, "../up"),
        special("link", tarfile.SYMTYPE, "good"),
        special("link", tarfile.LNKTYPE, "good"),
        special("null", tarfile.CHRTYPE),
        special("disk", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
)
def test_a_dangerous_member_of_a_tar_is_refused(tmp_path, members, strip):
    (path,) = write(tmp_path, packed({"top/good": b"x"} | members | {"link/shadow": b"x"}))
    archive = Archive(TAR.parts, "tar", strip=strip)
    with pytest.raises(DecurError) as caught:
        unpack(archive, [path], tmp_path / "in" / "raw")
    assert str(caught.value).startswith(f"{path}: member {next(iter(members))!r} ")
    assert "\n" not in str(caught.value)
    good = "good" if strip else "top/good"
    assert tree(tmp_path) == {"a.tar.gz": path.read_bytes(), f"in/raw/{good}": b"x"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("/etc/passwd", 0),
        ("a/../../up", 0),
        ("a/../up", 0),
        ("..\\up", 0),
        ("link", stat.S_IFLNK | 0o777),
        ("null", stat.S_IFCHR | 0o666),
    ],
)
def test_a_dangerous_member_of_a_zip_is_refused(tmp_path, name, mode):
    (path,) = write(tmp_path, zipped({name: b"x"}, mode), "a.zip")
    with pytest.raises(DecurError) as caught:
        unpack(ZIP, [path], tmp_path / "in" / "raw")
    assert str(caught.value).startswith(f"{path}: member {name!r} ")
    assert tree(tmp_path) == {"a.zip": path.read_bytes()}


def test_no_permission_of_an_archive_is_taken_over(tmp_path):
    member = tarfile.TarInfo("tool")
    member.mode = 0o6777
    (path,) = write(tmp_path, packed({"tool": member}))
    unpack(TAR, [path], tmp_path / "raw")
    assert stat.S_IMODE((tmp_path / "raw" / "tool").stat().st_mode) & 0o7111 == 0


@pytest.mark.parametrize("cut", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize(("archive", "body"), [(TAR, packed(FILES)), (ZIP, zipped(FILES))])
def test_a_truncated_archive_is_one_clear_line(tmp_path, archive, body, cut):
    (path,) = write(tmp_path, body[: int(cut * len(body))], archive.parts[0].name)
    with pytest.raises(DecurError, match=f"^{path}: truncated or damaged .*fetch it again$") as e:
        unpack(archive, [path], tmp_path / "raw")
    assert "\n" not in str(e.value)


def test_a_missing_last_part_is_seen(tmp_path):
    paths = write(tmp_path, packed(FILES), pieces=3)
    with pytest.raises(DecurError, match="truncated or damaged"):
        unpack(TAR, paths[:2], tmp_path / "raw")


@pytest.mark.parametrize(("archive", "body"), [(TAR, packed(FILES)), (ZIP, zipped(FILES))])
def test_no_changed_byte_passes(tmp_path, archive, body):
    """A flipped byte is an error, or lies where no content is (a date, a mode)."""
    for position in RNG.integers(0, len(body), 60):
        changed = bytearray(body)
        changed[position] ^= 0x55
        root = tmp_path / str(position)
        try:
            unpack(archive, write(tmp_path, bytes(changed), archive.parts[0].name), root)
        except DecurError:
            continue
        assert tree(root) == FILES


def test_a_tar_cut_between_members_and_packed_again_is_seen(tmp_path):
    """`tarfile` takes it for complete."""
    plain = gzip.decompress(packed({"a": b"a" * 512, "b": b"b" * 512}))
    for end in (1024, 1024 + 300, 2048):
        with pytest.raises(DecurError, match=r"truncated or damaged \(.*end"):
            unpack(TAR, write(tmp_path, gzip.compress(plain[:end])), tmp_path / "raw")


def test_a_tar_with_an_unreadable_header_is_seen(tmp_path):
    """`tarfile` stops there as if it were the end."""
    plain = bytearray(gzip.decompress(packed({"a": b"a" * 512, "b": b"b" * 512})))
    plain[1024 + 150] ^= 1
    with pytest.raises(DecurError, match="unreadable header at byte 1024"):
        unpack(TAR, write(tmp_path, gzip.compress(plain)), tmp_path / "raw")


@pytest.mark.parametrize(("archive", "body"), [(TAR, packed(FILES)), (ZIP, zipped(FILES))])
def test_what_a_killed_run_left_is_finished(tmp_path, archive, body):
    root = tmp_path / "raw"
    paths = write(tmp_path, body, archive.parts[0].name)
    unpack(archive, paths, root)
    whole, half, absent = root / "top/0/0.bin", root / "top/1/1.bin", root / "top/2/2.bin"
    half.with_name(".1.bin.part").write_bytes(b"half")
    half.unlink()
    absent.unlink()
    short = root / "top/0/3.bin"
    short.write_bytes(b"short")
    before = whole.stat()
    unpack(archive, paths, root)
    assert tree(root) == FILES
    assert whole.stat().st_ino == before.st_ino and whole.stat().st_mtime_ns == before.st_mtime_ns


def test_members_are_forgotten_once_they_are_read(tmp_path, monkeypatch):
    """Or the list of millions of members would fill the memory."""
    kept, read = [], tarfile.TarFile.next

    def counted(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(tar.members))
        return read(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    unpack(TAR, write(tmp_path, packed({f"{i}": b"" for i in range(50)})), tmp_path / "raw")
    assert len(kept) > 50
    assert max(kept) <= 1


def test_a_full_disk_is_named_and_a_rerun_goes_on(tmp_path, monkeypatch):
    paths = write(tmp_path, packed({"a": b"first", "b": b"second"}))
    written = []

    def full(file, data):
        written.append(data)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, data)

    with monkeypatch.context() as patch:
        patch.setattr("decur.download.unpack.write_all", full)
        with pytest.raises(DecurError, match=r"raw: cannot be written \(No space left"):
            unpack(TAR, paths, tmp_path / "raw")
    assert (tmp_path / "raw" / "a").read_bytes() == b"first"
    assert not (tmp_path / "raw" / "b").exists()
    unpack(TAR, paths, tmp_path / "raw")
    assert (tmp_path / "raw" / "b").read_bytes() == b"second"
