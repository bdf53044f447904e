"""The regression corpus: what is kept does what it did, and keeping loses nothing and takes nothing that shows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.cli import main
from hvmodel.traces.corpus import Kept, _checked, _toml, keep, kept, where_it_fails
from hvmodel.traces.format import Trace, TraceError, read, write

CORPUS = Path(__file__).parent / "traces"
KEPT = kept(CORPUS)
ENTRY = ENTRIES["D20"]
STALE = Trace(ENTRY.config, list(ENTRY.operations), "posted-v0", ENTRY.property)


@pytest.mark.parametrize("finding", [pytest.param(finding, id=finding.name) for finding in KEPT])
def test_what_is_kept_does_what_it_did(finding: Kept) -> None:
    """Protects every finding that was worth keeping: it fails where it must, holds where it must, and has a story."""
    assert finding.verdicts() == []
    assert finding.story
    assert finding.holds, "a finding that every driver shows says nothing about any"


def test_the_corpus_is_there() -> None:
    """Protects against a corpus that is looked for in the wrong place and found empty."""
    assert len(KEPT) >= 10
    assert {finding.trace.driver for finding in KEPT} >= {"posted-v0"}


def test_a_wrong_verdict_is_a_line(tmp_path: Path) -> None:
    """Protects against a corpus that cannot fail: a driver that does not do what it must is named, with what it does."""
    finding = keep(STALE, "stale", tmp_path, "a story", ("posted-v0",), ("repaired",))
    assert finding.verdicts() == []
    turned = replace(finding, fails=("repaired",), holds=("posted-v0",))
    first, second = turned.verdicts()
    assert first == "stale: no-stale-mapping holds on repaired, expected: fails"
    assert second.startswith("stale: no-stale-mapping fails on posted-v0, expected: holds (domain 1: ")


def test_keeping(tmp_path: Path) -> None:
    """Protects what is kept: it reads back whole, recorded anew, and what cannot be kept leaves nothing behind."""
    fails, holds = where_it_fails(STALE)
    assert "posted-v0" in fails
    assert "repaired+D20" in fails
    assert holds == ("repaired", "honest-splits", "honest-whole")
    made = keep(STALE, "stale-page", tmp_path, 'one\n\\n "two"\x7f\n\ttail\\', fails, holds)
    assert kept(tmp_path) == [made]
    assert made.trace.observed
    assert made.trace.finding["step"] == len(STALE.operations)
    refused = {
        "stale-page": "is there already",
        "again": "the same trace is kept as",
        "Ünfit": "only a-z",
        "a/b": "only a-z",
        "": "only a-z",
    }
    for name, why in refused.items():
        with pytest.raises(TraceError, match=why):
            keep(STALE, name, tmp_path, "", fails, holds)
    other = replace(STALE, operations=STALE.operations[:2])
    with pytest.raises(TraceError, match="expected: fails"):
        keep(other, "nothing", tmp_path, "", ("repaired",), ())
    with pytest.raises(TraceError, match="names no driver"):
        keep(other, "nothing", tmp_path, "", (), ("repaired",))
    with pytest.raises(TraceError, match="names no property"):
        keep(replace(STALE, property=None), "nothing", tmp_path, "", fails, holds)
    assert [path.name for path in tmp_path.iterdir()] == ["stale-page"]


@given(st.text(max_size=40))
@settings(settings.get_profile("ci"), max_examples=300)
def test_any_story_survives_its_file(story: str) -> None:
    """Protects stories: whatever a person writes reads back, but for blanks at its ends and half surrogates."""
    import tomllib

    finding = _checked("x", STALE, {"property": STALE.property, "fails": ["posted-v0"], "holds": [], "story": story})
    again = _checked("x", STALE, tomllib.loads(_toml(finding)))
    assert again.story == finding.story.encode(errors="replace").decode().strip()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("property = ", "finding.toml: Invalid value"),
        ('property = "no-stale-mapping"\nfails = ["posted-v9"]', "fails: no driver is called 'posted-v9'"),
        (
            'property = "no-lost-mapping"\nfails = ["posted-v0"]',
            "property: is no-lost-mapping, but the trace's is no-stale-mapping",
        ),
        ('property = "no-stale-mapping"', "fails: names no driver"),
        ('property = "no-stale-mapping"\nfials = []', "fials: unknown field"),
        ('property = "no-stale-mapping"\nfails = "posted-v0"', "fails: must be a list"),
    ],
)
def test_a_broken_entry_is_one_line(tmp_path: Path, content: str, why: str) -> None:
    """Protects whoever edits an entry: one line that names the file and what is wrong."""
    (tmp_path / "entry").mkdir()
    write(STALE, tmp_path / "entry" / "trace.json")
    (tmp_path / "entry" / "finding.toml").write_text(content)
    with pytest.raises(TraceError) as caught:
        kept(tmp_path)
    assert why in str(caught.value)
    assert str(tmp_path / "entry") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keep_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the verb: what it keeps is printed, a second time it is refused with status 2, and so is what is no trace."""
    path, corpus = tmp_path / "trace.json", tmp_path / "corpus"
    write(STALE, path)
    assert main(["keep", str(path), "--name", "stale", "--dir", str(corpus)]) == 0
    assert "fails on posted-v0, repaired+D20" in capsys.readouterr().out
    assert read(corpus / "stale" / "trace.json").operations == STALE.operations
    for arguments, why in (
        (["keep", str(path), "--name", "stale", "--dir", str(corpus)], "is there already"),
        (["keep", str(tmp_path / "none.json"), "--name", "x", "--dir", str(corpus)], "No such file"),
        (["keep", str(path), "--name", "x", "--driver", "posted-v9", "--dir", str(corpus)], "no driver is called"),
        (["keep", str(path), "--name", "y", "--dir", str(path)], "cannot write to"),
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
        assert why in err
