"""Processes that read: what they need, how long they are waited for, and that damage is not what the machine lacks."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Blocks
from torch.utils.data._utils import signal_handling

from facetx.data import workers
from facetx.data.base import FaceDataset
from facetx.data.formats.codec import decode_image, encode_png
from facetx.data.lists.folders import list_identities
from facetx.data.loader import StepSampler, TrainingItems, training_loader
from facetx.data.samplers import Shuffled
from facetx.data.sets.folder import ImageFolder
from facetx.data.workers import WorkerError, batches_of
from facetx.errors import DataError, is_resource
from facetx.evaluators import How
from facetx.evaluators.reading import read_batches
from facetx.files import read_file

PIXELS = np.zeros((32, 32, 3), np.uint8)


class Items(FaceDataset):
    """Ten images of two people, each given by ``of``; black by default."""

    name = "items"
    num_classes = 2
    labels = np.arange(10) % 2

    def __init__(self, of=lambda index: PIXELS):
        self.of = of

    def __getitem__(self, index):
        return {"image": self.of(index), "label": int(self.labels[index])}


def loader(data, count=2, batch=2):
    sampler = StepSampler(Shuffled(), data.labels, batch, 0, 0, 5)
    return training_loader(TrainingItems(data, [], 0, 32), sampler, count, pin_memory=False)


class Room:
    f_bavail, f_frsize = 1, 64 * 2**10


def test_batches_that_do_not_fit_shared_memory_are_told_before_the_start(monkeypatch):
    monkeypatch.setattr("facetx.data.workers.os.statvfs", lambda path: Room)
    loader(Items(), count=2, batch=2)  # 2 workers, 4 batches, 2 images, of 3 KiB: 48 of 64 KiB
    words = r"^the batches of 3 workers take 0 MiB, and /dev/shm has 0 MiB left .* set data.workers: 0 .*--shm-size"
    with pytest.raises(DataError, match=words):
        loader(Items(), count=3, batch=2)
    loader(Items(), count=0, batch=10)
    with pytest.raises(DataError, match="the batches of 2 workers take"):
        list(read_batches(Items(), Blocks(), How("cpu", batch_size=6, workers=2)))
    assert len(list(read_batches(Items(), Blocks(), How("cpu", batch_size=5, workers=2)))) == 2


def test_a_slow_worker_is_waited_for_and_a_stuck_one_is_not(monkeypatch):
    monkeypatch.setattr(workers, "LOOK", 0.2)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)  # that it waits for workers to end

    def slow(index):
        time.sleep(0.5 if index == 3 else 0)
        return PIXELS

    assert len(list(batches_of(loader(Items(slow), count=1)))) == 5
    monkeypatch.setattr(workers, "SILENCE", 0.5)
    began = time.monotonic()
    with pytest.raises(WorkerError, match="no batch came for 0.5 seconds, though the workers live; .*data.workers: 0"):
        list(batches_of(loader(Items(lambda index: time.sleep(60)), count=1)))
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_in_an_evaluation_is_told():
    def kill(index):
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return PIXELS

    with pytest.raises(WorkerError, match="a loader worker was killed by the system, probably out of memory"):
        list(read_batches(Items(kill), Blocks(), How("cpu", batch_size=2, workers=1)))


def test_those_of_an_evaluation_die_with_their_parent(tmp_path):
    def die():
        for _ in read_batches(Items(), Blocks(), How("cpu", batch_size=2, workers=2)):
            (tmp_path / "pids").write_text(" ".join(str(child.pid) for child in multiprocessing.active_children()))
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, pids))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")], ids=["memory", "files"])
@pytest.mark.parametrize("count", [0, 1])
def test_what_the_machine_lacks_is_no_damaged_image(error, count):
    def lack(index):
        raise error

    with pytest.raises(type(error)) as caught:
        list(batches_of(loader(Items(lack), count=count)))
    assert not isinstance(caught.value, DataError)
    assert is_resource(caught.value)


@pytest.mark.parametrize("name", [None, "a b.png", "it's.png", "x: 'y'"])
def test_an_error_of_the_system_comes_out_of_a_worker_whole(name):
    def refused(index):
        raise PermissionError(13, "Permission denied", *([] if name is None else [name]))

    with pytest.raises(PermissionError) as caught:
        list(batches_of(loader(Items(refused), count=1)))
    told = (caught.value.errno, caught.value.strerror, caught.value.filename)
    assert told == (13, "Permission denied", name)


def test_nor_is_it_while_an_image_is_decoded(monkeypatch):
    def lack(*_, **__):
        raise MemoryError

    monkeypatch.setattr("facetx.data.formats.codec.Image.open", lack)
    with pytest.raises(MemoryError):
        decode_image(b"", "x")


def test_a_pipe_among_the_images_is_left_out_or_unreadable(tmp_path):
    for person in ("a", "b"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.png").write_bytes(encode_png(PIXELS))
    os.mkfifo(tmp_path / "a/2.png")
    (tmp_path / "b/2.png").symlink_to(tmp_path / "a/2.png")
    listing = list_identities(tmp_path)
    assert listing.images == {"a": ["1.png"], "b": ["1.png", "2.png"]}
    assert listing.left_out == {"a/2.png": "no regular file"}
    data = ImageFolder(str(tmp_path))
    with pytest.raises(DataError, match="b/2.png: is no regular file"):
        data[2]
    with pytest.raises(DataError, match="a/2.png: is no regular file"):
        read_file(tmp_path / "a/2.png")


def test_a_handler_that_other_loaders_left_does_not_hide_what_was_wrong(monkeypatch):
    def lack(index):
        raise MemoryError

    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        signal_handling._set_SIGCHLD_handler()  # as plain PyTorch does at its first loader with workers
        with pytest.raises(MemoryError):
            list(batches_of(loader(Items(lack), count=1)))
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
