"""The harness sees every fault of a reader, and goes on after it."""

import pytest

from tests.fuzz import planted
from tests.fuzz.cases import Cases, Verdict
from tests.fuzz.harness import Setting, fuzz, measured
from tests.fuzz.report import offences, table

WANTED = {
    "hang": Verdict.HANG,
    "crash": Verdict.CRASH,
    "accepted": Verdict.OK,
    "refused": Verdict.CLEAN,
    "refused at length": Verdict.UNCLEAR,
    "refused with escapes": Verdict.UNCLEAR,
    "refused without name": Verdict.UNCLEAR,
    "refused in two lines": Verdict.UNCLEAR,
    "traceback": Verdict.TRACEBACK,
    "wrong": Verdict.WRONG,
    "memory": Verdict.MEMORY,
    "memory kept": Verdict.MEMORY,
    "growth": Verdict.OK,
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The tally of one case of each fault, and the folder of the saved files."""
    folder = tmp_path_factory.mktemp("planted")
    planted.write_undamaged(folder / "undamaged")
    setting = Setting(planted.__name__, tuple(WANTED), folder / "undamaged", seconds=1, mib=256)
    cases = ((name, 5) for name in WANTED)
    return fuzz(setting, cases, folder / "work", workers=1, out=folder / "out"), folder / "out"


def test_every_planted_fault_is_counted(tried):
    assert planted.FAULTS.keys() == WANTED.keys()
    assert tried[0].counts == {name: {verdict: 1} for name, verdict in WANTED.items()}


def test_the_growth_of_the_process_is_measured(tried):
    assert tried[0].peaks["growth"] == pytest.approx(50, abs=5)
    assert tried[0].peaks["accepted"] < 5


def test_a_case_that_grows_too_much_is_an_offence_also_where_it_ends(tmp_path):
    planted.write_undamaged(tmp_path / "undamaged")
    cases = Cases(planted.KINDS, tmp_path / "undamaged", tmp_path / "work", seed=0)
    assert measured(cases, ("growth", 0), mib=100).verdict == Verdict.OK
    outcome = measured(cases, ("growth", 0), mib=25)
    assert outcome.verdict == Verdict.MEMORY
    assert outcome.peak == pytest.approx(50, abs=5)
    assert measured(cases, ("accepted", 0), mib=25).peak < 5


def test_offending_files_are_saved_with_what_repeats_and_explains_them(tried):
    offending = {name for name, verdict in WANTED.items() if verdict not in ("ok", "clean")}
    assert {folder.name for folder in tried[1].iterdir()} == offending
    texts = {name: (tried[1] / name / "5_file.bin.txt").read_text() for name in offending}
    for name, text in texts.items():
        assert (tried[1] / name / "5_file.bin").read_bytes() == b"damaged"
        assert text.startswith(WANTED[name])
        assert f"--seed 0 --case {name} 5\n" in text
    assert "planted.py" in texts["hang"]
    assert "planted.py" in texts["crash"]
    assert "KeyError: 'planted'" in texts["traceback"]
    assert "more than 256 MiB" in texts["memory"]
    assert "more than 256 MiB" in texts["memory kept"]
    assert "more than 500 characters" in texts["refused at length"]
    assert "control characters" in texts["refused with escapes"]
    assert "names no file or argument" in texts["refused without name"]
    assert "not one line" in texts["refused in two lines"]


def test_the_table_and_the_list_say_what_was_counted(tried):
    lines = {line[:20].strip(): line[20:].split() for line in table(tried[0]).splitlines()}
    assert lines["traceback"][:8] == ["1", "0", "0", "0", "1", "0", "0", "0"]
    assert lines["all"][:9] == ["13", "2", "1", "4", "1", "1", "2", "1", "1"]
    listed = offences(tried[0]).splitlines()
    assert len(listed) == 10
    assert "traceback: traceback x 1, first case 5: KeyError in planted.py:" in "\n".join(listed)


def test_files_that_are_refused_undamaged_end_the_run(tmp_path):
    planted.write_undamaged(tmp_path / "undamaged")
    (tmp_path / "undamaged" / "traceback" / "file.bin").write_bytes(b"another")
    setting = Setting(planted.__name__, ("traceback",), tmp_path / "undamaged")
    with pytest.raises(RuntimeError, match="KeyError: 'planted'"):
        fuzz(setting, iter(()), tmp_path / "work", workers=1)


def test_a_damage_that_fails_ends_the_run(tmp_path):
    planted.write_undamaged(tmp_path / "undamaged")
    setting = Setting(planted.__name__, ("no damage",), tmp_path / "undamaged")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted in a damage"):
        fuzz(setting, iter([("no damage", 0)]), tmp_path / "work", workers=1)
