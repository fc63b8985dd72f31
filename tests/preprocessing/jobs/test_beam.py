"""A preparation by Apache Beam: the same bytes as without it, resumable, and nothing lost when a worker is killed."""

import multiprocessing
import os

import pytest

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs import beam
from boneage.preprocessing.jobs.prepare import PreparationError, prepare
from boneage.preprocessing.synthetic import write_dataset

pytest.importorskip("apache_beam")

CONFIG = PreprocessingConfig(segmenter="none", image_size_px=32)
TWO_PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, num_images=12, seed=3, size_px=(80, 64))
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    """Twelve cases make six parts."""
    monkeypatch.setattr("boneage.preprocessing.jobs.prepare.CASES_PER_SHARD", 2)


def run(source, out, **options):
    return prepare(source, out=out, split="random", **{"config": CONFIG, "runner": "DirectRunner"} | options)


def content(folder):
    """Every file of a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count_launches(monkeypatch):
    launches, launch = [], beam.BeamExecutor._launch
    monkeypatch.setattr(
        beam.BeamExecutor, "_launch", lambda *arguments: launches.append(arguments) or launch(*arguments)
    )
    return launches


@pytest.fixture
def whole(source, tmp_path):
    """The bytes that one process writes."""
    return content(run(source, tmp_path / "whole", runner=None, workers=1).folder)


def test_writes_what_one_process_writes(source, tmp_path, whole, small_parts, capfd):
    reports = []
    prepared = run(source, tmp_path / "records", progress=lambda *report: reports.append(report))
    assert content(prepared.folder) == whole
    assert reports == [(finished, 12) for finished in (0, 2, 4, 6, 8, 10, 12)]
    assert not (tmp_path / "records.partial").exists()
    # Standard output belongs to the command line's JSON.
    assert capfd.readouterr() == ("", "")


def test_failed_part_is_one_line_and_the_same_command_goes_on(source, tmp_path, whole, small_parts):
    parts = tmp_path / "records.partial" / "parts"
    in_the_way = parts / "part-00002.tfrecord"
    with pytest.raises(PreparationError) as caught:
        run(source, tmp_path / "records", progress=lambda *_: in_the_way.mkdir(exist_ok=True))
    message = str(caught.value)
    assert "\n" not in message
    assert "Is a directory" in message
    assert f"see {parts / 'beam.log'}, fix the cause and run the same command again" in message
    num_finished = len(list(parts.glob("*.json")))
    assert list(parts.glob("*.part")) == []
    in_the_way.rmdir()
    reports = []
    prepared = run(source, tmp_path / "records", progress=lambda *report: reports.append(report))
    assert reports[0] == (2 * num_finished, 12)
    assert content(prepared.folder) == whole


@pytest.mark.slow
def test_killed_worker_loses_nothing(tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    source = tmp_path / "drawn"
    write_dataset(source, num_images=48, seed=3, size_px=(1000, 800))
    monkeypatch.setattr("boneage.preprocessing.jobs.prepare.CASES_PER_SHARD", 2)
    # The first finished part is noticed while the workers have most of their parts before them.
    monkeypatch.setattr(beam, "POLL_SECONDS", 0.01)
    whole = content(run(source, tmp_path / "whole", runner=None, workers=2).folder)
    killed = []

    def kill_one(finished, _):
        if finished and not killed:
            (pipeline,) = multiprocessing.active_children()
            workers = psutil.Process(pipeline.pid).children()
            assert len(workers) == 2
            killed.append(workers[0].pid)
            workers[0].kill()

    launches = count_launches(monkeypatch)
    prepared = run(source, tmp_path / "records", runner_options=TWO_PROCESSES, progress=kill_one)
    assert len(killed) == 1
    assert len(launches) == 2
    assert content(prepared.folder) == whole
    assert not psutil.pid_exists(killed[0])


def test_workers_that_are_killed_again_and_again_end_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "MAX_RESTARTS_WITHOUT_PROGRESS", 2)
    launches = count_launches(monkeypatch)
    # It dies without a word, as a killed process does.
    monkeypatch.setattr(beam, "_run", os.abort)
    with pytest.raises(PreparationError, match="workers were killed, most likely because memory ran out; run"):
        run(source, tmp_path / "records")
    assert len(launches) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runner": "DirectRuner"}, r"`runner` must be one of DirectRunner, .*Did you mean 'DirectRunner'\?"),
        ({"workers": 2}, "`workers` applies to the local machine only"),
        ({"runner": None, "runner_options": TWO_PROCESSES}, "`runner_options` need a `runner`"),
        ({"runner_options": ["direct_num_workers=2"]}, "must be like --name=value or --name. Received: 'direct_num"),
        (
            {"runner_options": ["--direct_num_worker=2"]},
            "no option --direct_num_worker. Did you mean",
        ),
        ({"runner_options": ["--direct_running_mode=all"]}, "argument --direct_running_mode: invalid choice: 'all'"),
    ],
)
def test_wrong_options_are_refused(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        run(source, tmp_path / "records", **options)
    assert "\n" not in str(caught.value)
