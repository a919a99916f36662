"""Files and folders are replaced whole or not at all, whatever interrupts the write."""

import contextlib
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from support.messages import refused
from yolotf.files import atomic, folder_swap

NEW, OLD = b"new" * 50_000, b"old" * 1000

UNNAMED = ["unnamed", "named"]
"""File systems with O_TMPFILE, where a file has no name until it is complete, and without."""


@pytest.fixture(params=UNNAMED)
def file_system(request, monkeypatch):
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")
    return request.param


def write(path, content=NEW, **options):
    with atomic.replacing_file(path, **options) as file:
        file.write(content)


def write_by_path(path, content=NEW, **options):
    with atomic.replacing_path(path, **options) as ready:
        ready.write_bytes(content)


def write_by_library_that_renames(path, content=NEW):
    with atomic.replacing_path(path) as ready:
        other = ready.with_name("other")
        other.write_bytes(content)
        other.replace(ready)


WRITERS = [write, write_by_path, write_by_library_that_renames]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("writer", WRITERS)
class TestFile:
    def test_new_file_has_the_default_mode(self, writer, tmp_path):
        writer(tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == NEW
        assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask()
        assert names(tmp_path) == ["a.bin"]

    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o2775, 0o444, 0o000])
    def test_mode_is_kept(self, writer, mode, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        path.chmod(mode)
        writer(path)
        assert path.read_bytes() == NEW
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_owner_group_and_set_id_bits_are_kept_by_root(self, writer, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        try:
            os.chown(path, 12345, 23456)
        except PermissionError:
            pytest.skip("needs root")
        path.chmod(0o6750)
        writer(path)
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (12345, 23456)
        assert stat.S_IMODE(status.st_mode) == 0o6750

    def test_extended_attributes_are_kept(self, writer, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        try:
            os.setxattr(path, "user.trained-by", b"me")
        except OSError:
            pytest.skip("a file system without extended attributes")
        writer(path)
        assert os.getxattr(path, "user.trained-by") == b"me"

    def test_links_are_followed_and_stay(self, writer, tmp_path):
        (tmp_path / "real").mkdir()
        real, link, dangling = tmp_path / "real/a", tmp_path / "link", tmp_path / "dangling"
        real.write_bytes(OLD)
        link.symlink_to(real)
        dangling.symlink_to("real/b")
        writer(link)
        writer(dangling)
        assert link.is_symlink()
        assert dangling.is_symlink()
        assert real.read_bytes() == (tmp_path / "real/b").read_bytes() == NEW
        assert names(tmp_path / "real") == ["a", "b"]

    @pytest.mark.parametrize("name", ["n" * 255, "名" * 85, "new\nline", "-r", "\udcff"])
    def test_any_file_name_works(self, writer, name, tmp_path):
        path = tmp_path / name
        writer(path, OLD)
        writer(path)
        assert path.read_bytes() == NEW
        assert names(tmp_path) == [name]

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("failing", ["fsync", "replace", "link", "fchmod"])
    def test_failed_last_step_keeps_the_old_file(
        self, writer, failing, there, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.bin"
        if there:
            path.write_bytes(OLD)

        def fails(*_, **__):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, failing, fails)
        if failing == "replace":
            monkeypatch.setattr(Path, "replace", fails)
        with contextlib.suppress(OSError):
            writer(path)
            # Not every writer calls every one of these functions.
            assert path.read_bytes() == NEW
            return
        assert names(tmp_path) == (["a.bin"] if there else [])
        assert not there or path.read_bytes() == OLD

    @pytest.mark.parametrize("there", [True, False])
    def test_folder_that_cannot_be_synced_fails_before_anything_is_replaced(
        self, writer, there, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.bin"
        if there:
            path.write_bytes(OLD)
        fail_folder_sync(monkeypatch, calls=0)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - errno below
            writer(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
        assert names(tmp_path) == (["a.bin"] if there else [])
        assert not there or path.read_bytes() == OLD

    def test_folder_sync_that_fails_after_the_replacement_is_reported(
        self, writer, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        fail_folder_sync(monkeypatch, calls=1)
        with refused(OSError):
            writer(path)
        assert path.read_bytes() == NEW
        assert names(tmp_path) == ["a.bin"]

    def test_file_system_that_cannot_sync_folders_is_accepted(self, writer, tmp_path, monkeypatch):
        fail_folder_sync(monkeypatch, calls=0, number=errno.EINVAL)
        writer(tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == NEW

    def test_exception_keeps_the_old_file(self, writer, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)

        opening = atomic.replacing_file if writer is write else atomic.replacing_path
        with pytest.raises(KeyboardInterrupt), opening(path):
            raise KeyboardInterrupt
        assert path.read_bytes() == OLD
        assert names(tmp_path) == ["a.bin"]

    def test_errors_of_other_files_keep_their_name(self, writer, tmp_path):
        opening = atomic.replacing_file if writer is write else atomic.replacing_path
        with pytest.raises(FileNotFoundError) as caught, opening(tmp_path / "a.bin"):
            (tmp_path / "other").read_bytes()
        assert caught.value.filename == str(tmp_path / "other")


def fail_folder_sync(monkeypatch, calls, number=errno.EIO):
    """Makes `fsync` of folders fail after `calls` calls that succeed."""
    real, done = os.fsync, []

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            done.append(descriptor)
            if len(done) > calls:
                raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


_WITHOUT_RIGHTS = """
    import os, sys
    from yolotf.files import atomic

    os.setgroups([500])
    os.setgid(400)
    os.setuid(300)
    os.umask(0o022)
    for path in sys.argv[1:]:
        with atomic.replacing_file(path) as file:
            file.write(b"new")
"""


def test_unprivileged_write_keeps_what_it_may_of_owner_and_mode(tmp_path):
    if os.geteuid():
        pytest.skip("needs root")
    folder = tmp_path / "all"
    folder.mkdir()
    for each in folder.parents:  # as many as pytest and its workers made
        if each == Path(tempfile.gettempdir()) or each.stat().st_mode & 0o1000:
            break
        each.chmod(each.stat().st_mode | 0o755)
    folder.chmod(0o777)
    member, foreign = folder / "member", folder / "foreign"
    for path, group in ((member, 500), (foreign, 600)):
        path.write_bytes(OLD)
        os.chown(path, 12345, group)
        path.chmod(0o6754)
    code = textwrap.dedent(_WITHOUT_RIGHTS)
    subprocess.run([sys.executable, "-c", code, member, foreign], check=True)
    status = member.stat()
    assert (status.st_uid, status.st_gid) == (300, 500)
    assert stat.S_IMODE(status.st_mode) == 0o2754
    status = foreign.stat()
    assert (status.st_uid, status.st_gid) == (300, 400)
    assert stat.S_IMODE(status.st_mode) == 0o754


# Processes that are killed while they write.

_KILLED = """
    import os, signal, sys
    from pathlib import Path
    from yolotf.files import atomic, folder_swap

    kind, path, number, moment, named = sys.argv[1:]
    if named == "named":
        del os.O_TMPFILE
    moment, calls = int(moment), 0

    def counted(function):
        def call(*arguments, **options):
            global calls
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), int(number))
            return function(*arguments, **options)
        return call

    for module, names in (
        (os, "open close fsync link replace rename unlink mkdir rmdir symlink fchmod fchown"),
        (os, "fstat dup stat scandir"),
        (folder_swap, "exchange restore_folder"),
    ):
        for name in names.split():
            setattr(module, name, counted(getattr(module, name)))
    Path.rename = counted(Path.rename)
    if kind == "file":
        with atomic.replacing_file(path) as file:
            for _ in range(3):
                counted(file.write)(b"new" * 50_000)
    elif kind == "path":
        with atomic.replacing_path(path) as ready:
            counted(ready.write_bytes)(b"new" * 150_000)
    else:
        with atomic.replacing_folder(path) as ready:
            ready.mkdir()
            counted((ready / "part").write_bytes)(b"new" * 150_000)
    print(calls)
"""


def killed(kind, path, number, moment, named):
    """Runs a write that kills itself at its `moment`-th system call; whether it was killed."""
    code = textwrap.dedent(_KILLED)
    arguments = [kind, str(path), str(int(number)), str(moment), named]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(path.parents[1] / "tmp")},
    )
    assert done.returncode in (0, -number), done.stderr
    return done.returncode == -number


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("kind", ["file", "path"])
@pytest.mark.parametrize("there", [True, False], ids=["there", "new"])
def test_a_kill_at_any_call_leaves_no_part(kind, number, there, tmp_path):
    path = tmp_path / "out/a.bin"
    path.parent.mkdir()
    (tmp_path / "tmp").mkdir()
    moments_with_leftovers = []
    for moment in range(1, 100):
        path.unlink(missing_ok=True)
        if there:
            path.write_bytes(OLD)
        if not killed(kind, path, number, moment, "unnamed"):
            break
        entries = names(path.parent)
        if len(entries) > 1 or entries != (["a.bin"] if there else entries):
            moments_with_leftovers.append(moment)
        assert not path.exists() or path.read_bytes() in (OLD, b"new" * 150_000)
        assert there <= path.exists()
    assert moment > 8
    # Only a kill between `linkat` and `rename` leaves a part.
    assert len(moments_with_leftovers) <= (2 if there else 0)
    write(path)
    assert names(path.parent) == ["a.bin"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "path", "folder"])
def test_next_write_removes_named_parts_that_a_kill_left(kind, tmp_path):
    path = tmp_path / "out/a.bin"
    path.parent.mkdir()
    (tmp_path / "tmp").mkdir()
    old = path / "part" if kind == "folder" else path
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(OLD)
    for moment in range(1, 200):
        alive = not killed(kind, path, signal.SIGKILL, moment, "named")
        assert old.read_bytes() in (OLD, b"new" * 150_000), moment
        if alive:
            break
        old.write_bytes(OLD)
        # Each write removes the parts that earlier writes left.
        assert len(names(path.parent)) <= 2
    assert moment > 8
    assert names(path.parent) == ["a.bin"]


def test_part_that_another_process_is_writing_is_kept(tmp_path):
    path, other = tmp_path / "a.bin", tmp_path / ".a.bin.00c0ffee.part"
    other.write_bytes(b"being written")
    strangers = [".a.bin.00c0ffee.partial", ".b.bin.00c0ffee.part", ".a.bin.xyz.part"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"")
    with other.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        write(path)
        assert other.exists()
    write(path)
    assert names(tmp_path) == sorted(["a.bin", *strangers])


# Folders.


def write_folder(path, content=NEW):
    with atomic.replacing_folder(path) as ready:
        (ready / "inner").mkdir(parents=True)
        (ready / "inner/part").write_bytes(content)


@pytest.fixture(params=["exchange", "aside"])
def exchange(request, monkeypatch):
    if request.param == "aside":
        monkeypatch.setattr(folder_swap, "exchange", lambda *_: False)
    return request.param


@pytest.mark.usefixtures("exchange")
class TestFolder:
    def test_folder_is_replaced_whole_and_keeps_owner_and_modes(self, tmp_path):
        path = tmp_path / "served"
        write_folder(path, OLD)
        (path / "left-over").touch()
        root = not os.geteuid()
        for path_inside in (path, *path.rglob("*")):
            path_inside.chmod(0o2750 if path_inside.is_dir() else 0o640)
            if root:
                os.chown(path_inside, 12345, 23456)
                path_inside.chmod(0o2750 if path_inside.is_dir() else 0o640)
        write_folder(path)
        assert names(path) == ["inner"]
        assert (path / "inner/part").read_bytes() == NEW
        for path_inside in (path, *path.rglob("*")):
            status = path_inside.stat()
            assert stat.S_IMODE(status.st_mode) == (0o2750 if path_inside.is_dir() else 0o640)
            if root:
                assert (status.st_uid, status.st_gid) == (12345, 23456)
        assert names(tmp_path) == ["served"]

    @pytest.mark.parametrize("moment", range(1, 12))
    def test_a_ctrl_c_between_any_two_steps_leaves_one_whole_folder(
        self, moment, tmp_path, monkeypatch
    ):
        path = tmp_path / "served"
        write_folder(path, OLD)
        steps = []

        def interrupted(function):
            def call(*arguments, **options):
                done = function(*arguments, **options)
                steps.append(function)
                if len(steps) == moment:
                    raise KeyboardInterrupt
                return done

            return call

        for module, name in (
            (Path, "rename"),
            (Path, "exists"),
            (folder_swap, "exchange"),
            (folder_swap, "swap_by_renaming"),
            (os, "rename"),
        ):
            monkeypatch.setattr(module, name, interrupted(getattr(module, name)))
        with contextlib.suppress(KeyboardInterrupt):
            write_folder(path)
        monkeypatch.undo()
        assert (path / "inner/part").read_bytes() in (OLD, NEW)
        write_folder(path)
        assert names(tmp_path) == ["served"]

    def test_old_folder_that_a_kill_left_aside_is_put_back(self, tmp_path):
        path, aside = tmp_path / "served", tmp_path / ".served.00c0ffee.part"
        write_folder(path, OLD)
        aside.mkdir()
        path.rename(aside / "old")

        class StopError(Exception):
            pass

        with pytest.raises(StopError), atomic.replacing_folder(path):
            raise StopError
        assert (path / "inner/part").read_bytes() == OLD
        assert names(tmp_path) == ["served"]

    def test_a_file_or_device_is_not_replaced(self, tmp_path):
        (tmp_path / "file").write_bytes(OLD)
        os.mkfifo(tmp_path / "fifo")
        for name in ("file", "fifo"):
            with refused(OSError):
                write_folder(tmp_path / name)
        assert names(tmp_path) == ["fifo", "file"]


PARTS = ("model.pb", "variables", "extra/names")


def write_parts(path, content=NEW, **options):
    with atomic.replacing_folder(path, parts=PARTS, **options) as ready:
        (ready / "variables").mkdir(parents=True)
        (ready / "model.pb").write_bytes(content)
        (ready / "variables/data").write_bytes(content)
        (ready / "empty").mkdir()


@pytest.fixture
def mixed(tmp_path):
    """An older output of parts, with the user's own files beside and inside them."""
    path = tmp_path / "served"
    write_parts(path, OLD)
    for name in ("notes", "extra/names", "extra/requests", "own/deep/file"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"mine")
    (path / "link").symlink_to("notes")
    return path


def tree(folder):
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


class TestFolderOfParts:
    def test_only_the_parts_are_replaced(self, mixed, tmp_path):
        others = {"notes": b"mine", "extra/requests": b"mine", "own/deep/file": b"mine"}
        write_parts(mixed)
        assert tree(mixed) == {
            "model.pb": NEW,
            "variables/data": NEW,
            "link": "notes",
            **others,
        }
        assert names(tmp_path) == ["served"]

    def test_folder_that_holds_only_parts_is_exchanged_whole(self, tmp_path):
        path = tmp_path / "served"
        write_parts(path, OLD)
        before = path.stat().st_ino
        write_parts(path)
        assert path.stat().st_ino != before
        assert tree(path) == {"model.pb": NEW, "variables/data": NEW}

    def test_existing_part_is_refused_without_overwrite(self, mixed):
        before = tree(mixed)
        with refused(FileExistsError):
            write_parts(mixed, overwrite=False)
        assert tree(mixed) == before

    def test_a_folder_without_parts_is_written_into(self, tmp_path):
        (tmp_path / "served").mkdir()
        (tmp_path / "served/notes").write_bytes(b"mine")
        write_parts(tmp_path / "served", overwrite=False)
        assert tree(tmp_path / "served")["notes"] == b"mine"
        assert tree(tmp_path / "served")["model.pb"] == NEW

    def test_a_file_where_a_folder_goes_is_refused_before_anything_moves(self, mixed):
        (mixed / "empty").rmdir()
        (mixed / "empty").write_bytes(b"mine")
        before = tree(mixed)
        with refused(NotADirectoryError):
            write_parts(mixed)
        assert tree(mixed) == before

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
    @pytest.mark.parametrize("moment", range(2, 10))
    def test_failure_between_any_two_steps_leaves_the_old_or_the_new_folder(
        self, moment, error, mixed, tmp_path, monkeypatch
    ):
        before = tree(mixed)
        after = {**before, "model.pb": NEW, "variables/data": NEW}
        del after["extra/names"]
        steps = []

        def failing(function):
            def call(*arguments, **options):
                done = function(*arguments, **options)
                steps.append(function)
                if len(steps) == moment:
                    raise error
                return done

            return call

        for name in ("rename", "mkdir"):
            monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
        with contextlib.suppress(OSError, KeyboardInterrupt):
            write_parts(mixed)
        monkeypatch.undo()
        assert tree(mixed) in (before, after)
        assert names(tmp_path) == ["served"]

    def test_next_write_puts_back_parts_that_a_kill_left_aside(self, mixed, tmp_path):
        before = tree(mixed)
        aside = tmp_path / ".served.00c0ffee.part"
        (aside / "replaced").mkdir(parents=True)
        (mixed / "variables").rename(aside / "replaced/variables")
        (mixed / "extra/names").rename(aside / "replaced/extra%2Fnames")
        (mixed / "variables").mkdir()
        (mixed / "variables/half").touch()
        with pytest.raises(FileExistsError):
            write_parts(mixed, overwrite=False)
        with pytest.raises(ZeroDivisionError), atomic.replacing_folder(mixed, parts=PARTS):
            1 / 0  # noqa: B018
        assert tree(mixed) == before
        assert names(tmp_path) == ["served"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("writer", [write, write_by_path])
class TestRefusals:
    def test_existing_file_is_refused_without_overwrite(self, writer, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        with refused(FileExistsError) as caught:
            writer(path, overwrite=False)
        assert caught.value.filename == str(path)
        assert (path.read_bytes(), names(tmp_path)) == (OLD, ["a.bin"])

    @pytest.mark.parametrize("before_check", [True, False])
    def test_file_that_appears_during_the_write_is_not_overwritten(
        self, writer, before_check, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.bin"
        finish = atomic._prepare_to_publish

        def appear(*arguments):
            if before_check:
                path.write_bytes(OLD)
            finish(*arguments)
            path.write_bytes(OLD)

        monkeypatch.setattr(atomic, "_prepare_to_publish", appear)
        with pytest.raises(FileExistsError):
            writer(path, overwrite=False)
        assert (path.read_bytes(), names(tmp_path)) == (OLD, ["a.bin"])

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_input_is_never_replaced_under_any_name(self, writer, link, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        link(path, tmp_path / "other")
        for name in (path, tmp_path / "other"):
            with refused(FileExistsError):
                writer(name, inputs=[tmp_path / "none", path])
        assert path.read_bytes() == OLD


def test_file_is_written_where_no_temporary_folder_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    (tmp_path / "out").mkdir()
    write_by_path(tmp_path / "out/a.bin")
    assert (tmp_path / "out/a.bin").read_bytes() == NEW
    assert names(tmp_path / "out") == ["a.bin"]


def test_a_folder_is_never_missing_for_its_readers(tmp_path):
    """Holds where the file system can exchange two names in one step."""
    probe = [tmp_path / "one", tmp_path / "two"]
    for folder in probe:
        folder.mkdir()
    if not folder_swap.exchange(*probe):
        pytest.skip("this file system cannot exchange two names")
    path = tmp_path / "served"
    write_folder(path, OLD)
    code = (
        "import os, sys\nprint('ready', flush=True)\n"
        "while not os.path.exists(sys.argv[2]):\n"
        "    assert os.path.exists(sys.argv[1])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path, tmp_path / "stop"], stdout=subprocess.PIPE
    ) as reader:
        reader.stdout.readline()
        for _ in range(20):
            write_folder(path)
        (tmp_path / "stop").touch()
    assert reader.returncode == 0
