"""What a night says: a page from the books of a state directory, as Markdown or HTML (``hvmodel/document.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from hvmodel.document import Block, Code, Folded, Page, Picture, Section, Table, Text
from hvmodel.drivers.variants import VARIANTS
from hvmodel.jobs.nightly import charts, figures
from hvmodel.jobs.nightly.estimate import Interval
from hvmodel.jobs.nightly.figures import Forecast
from hvmodel.jobs.nightly.join import WINDOW, Books
from hvmodel.jobs.nightly.ledger import CUT_SHORT, EXCUSED, FIXED, INTERRUPTED, KNOWN, NEW, VOID, Entry, NightRecord, simplest
from hvmodel.jobs.nightly.stories import story
from hvmodel.jobs.survival import kaplan_meier, quantile

OPEN = 4
"""So many stories of new findings are shown at once; where there are more, each is shown on request."""

STORIES = 40
"""So many causes of new findings are told; the others are in the table, and all have their trace files."""

NO_BREAK = "\N{NON-BREAKING HYPHEN}"
"""Keeps a date in one line of a narrow column."""

Night = Sequence[NightRecord]

What = Mapping[str, Sequence[str]]
"""The findings of a night by what they are, each list in the order of a report."""


def page(books: Books, when: str, notes: Sequence[str] = ()) -> Page:
    """The summary of the night of a date, over all its shards. ``notes`` is what the job itself has to say."""
    nights = books.ledger.of_date(when)
    what = figures.tonight(books, when)
    verdict, mood = _verdict(books, nights, what)
    sections = [
        Section("New", [*(Text(note, warning=True) for note in notes), *_new(books, what)]),
        Section("Not new", _old(books, nights, what, when)),
        Section("What another night would find", _estimates(books, when)),
        Section("Trend", _trend(books, when, what)),
        Section("What was done", _work(nights)),
        Section("Never reached", _never(nights)),
        Section("Branches of the driver", _branches(nights)),
        Section("Survival of variants", _survival(books, nights)),
    ]
    driver = "".join(letter if letter.isalnum() or letter in "+-_./: " else "?" for letter in books.ledger.driver)
    return Page(f"{driver}, night of {when}", verdict, mood, sections)


def _verdict(books: Books, nights: Night, what: What) -> tuple[str, str]:
    """The night in one line, and how that is meant."""
    counts = {name: len(what.get(name, ())) for name in (NEW, KNOWN, FIXED, EXCUSED)}
    causes = len(figures.causes([books.ledger.entries[name] for name in what.get(NEW, ())]))
    new = f"{counts[NEW]} new" + (f" ({_count(causes, 'cause')})" if counts[NEW] > 1 else "")
    text = f"{new}, {counts[KNOWN]} known, {counts[FIXED]} fixed, {counts[EXCUSED]} excused."
    wrong = [
        (sum(len(night.different) for night in nights), "portion of work came out different when done again"),
        (sum(len(night.failures) for night in nights), "portion of work failed"),
        (sum(len(night.corpus.get("problems", ())) for night in nights), "kept trace does not do what it says"),
    ]
    if any(number for number, _what in wrong):
        said = "; ".join(f"{number} x {said}" for number, said in wrong if number)
        return f"The harness erred: {said}. {text}", "bad"
    if figures.is_void(nights):
        return f"Void: {_why_void(nights[0])}, so that finding nothing else would say nothing.", "odd"
    odd = [f"Shard {night.shard} {_ENDED[night.ended]}." for night in nights if night.ended in _ENDED]
    odd += [f"Shard {night.shard} was void: {_why_void(night)}." for night in nights if night.ended == VOID]
    return " ".join([text, *odd]), "bad" if counts[NEW] else "odd" if odd else "good"


_ENDED = {INTERRUPTED: "was interrupted", CUT_SHORT: "was cut short"}


def _why_void(night: NightRecord) -> str:
    found = all(trial.get("found") for trial in night.canaries)
    return "the time was over before the search began" if found else "a canary was not found"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _code(text: object) -> str:
    """Words that come from elsewhere, set as code so that nothing in them is markup."""
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"


# --- findings -----------------------------------------------------------------------------------------------------------------


def _new(books: Books, what: What) -> list[Block]:
    causes = figures.causes([books.ledger.entries[name] for name in what.get(NEW, ())])
    if not causes:
        return [Text("Nothing.")]
    blocks: list[Block] = []
    if len(causes) > 1:
        blocks += [Text("One row for each cause, the worst first, with its simplest trace."), _table(causes, dated=False)]
    for number, entries in enumerate(causes[:STORIES], 1):
        told = _told(books, entries)
        title = f"{number}. {entries[0].summary}" if len(causes) > 1 else entries[0].summary
        blocks += [Text(title), *told] if len(causes) <= OPEN else [Folded(title, told)]
    if len(causes) > STORIES:
        blocks.append(Text(f"{len(causes) - STORIES} more are in the table only."))
    return blocks


def _told(books: Books, entries: Sequence[Entry]) -> list[Block]:
    """The story of a cause, with all that somebody needs who wants to go on from there."""
    entry = entries[0]
    facts = [f"{_code(entry.signature)}: {entry.severity or 'severity unknown'}, level {entry.level}."]
    if entry.means:
        facts.append(f"Caused by {entry.means}.")
    if entry.finding is not None and entry.finding.assumptions:
        facts.append(f"Assumes {'; '.join(entry.finding.assumptions)}.")
    if len(entry.seen) > 1:
        facts.append(f"First seen {entry.seen[0]}" + (f", gone on {max(entry.fixed)}." if entry.fixed else "."))
    excuse = books.excuses.get(entry.signature)
    if excuse is not None:
        facts.append(f"Its excuse ran out on {excuse.until}: {_code(excuse.reason)}.")
    blocks: list[Block] = [
        Text(" ".join(facts)),
        Code(story(entry, books.ledger.driver)),
        Text(f"Replay it with `hvmodel replay traces/{entry.file}`, read all of it with `hvmodel explain traces/{entry.file}`."),
    ]
    if len(entries) > 1:
        blocks.append(Text(f"Of the same cause: {', '.join(_code(other.signature) for other in entries[1:])}"))
    return blocks


def _table(causes: Sequence[Sequence[Entry]], dated: bool = True) -> Table:
    rows: list[tuple[str, ...]] = []
    for number, (best, *others) in enumerate(causes, 1):
        name = _code(best.signature) + (f" (+{len(others)})" if others else "")
        first = (best.seen[0].replace("-", NO_BREAK) if best.seen else "",) if dated else ()
        rows.append((str(number), best.severity, best.summary, str(best.operations), best.level, *first, name))
    head = ("", "severity", "what happened", "ops", "level", *(("first seen",) if dated else ()), "signature")
    return Table(head, rows, frozenset({0, 3}))


def _old(books: Books, nights: Night, what: What, when: str) -> list[Block]:
    blocks: list[Block] = []
    fixed, known = ([books.ledger.entries[name] for name in what.get(word, ())] for word in (FIXED, KNOWN))
    if fixed:
        text = "Fixed: these do not fail any more on their traces, and the search did not find them."
        blocks += [Text(text), _table([[entry] for entry in fixed])]
    excused = [books.excuses[name] for name in what.get(EXCUSED, ())]
    if excused:
        rows = [(_code(item.signature), item.until, _code(item.reason)) for item in excused]
        blocks += [Text("Excused:"), Table(("signature", "until", "reason"), rows)]
    forms = [entry for entry in known if entry.seen[:1] == (when,)]
    if forms:
        title = f"{_count(len(forms), 'form')} of known causes that no night had met before"
        blocks.append(Folded(title, [_table(figures.causes(forms))]))
    if known:
        kept = simplest(known)
        causes = figures.causes([entry for entry in known if entry.signature in kept])
        blocks.append(Folded(f"{_count(len(known), 'known finding')}, {_count(len(causes), 'cause')}", [_table(causes)]))
    untested = sorted({name for night in nights for name in night.untested})
    if untested:
        text = "These are neither here nor fixed: their traces no longer come to where their property is judged, or cannot be read."
        blocks.append(Folded(f"{_count(len(untested), 'finding')} not put to the test", [Text(text), Code("\n".join(untested))]))
    return blocks or [Text("Nothing else was found.")]


# --- estimates and trend ------------------------------------------------------------------------------------------------------


def _estimates(books: Books, when: str) -> list[Block]:
    estimates = figures.forecasts(books, when)
    rows = [_forecast(name, item) for name, item in estimates.items() if item.counts.samples >= 2]
    if not rows:
        return [Text("Not estimated: no runs.")]
    causes, signatures = estimates["causes"].another, estimates["findings"].another
    head = ("", "runs", "met", "in one run", "in two", "never met, at least", "new ones a run", "new ones another night")
    return [
        Text(
            f"Another night of the same length meets about {causes.value:.1f} new causes (95 % interval {_range(causes)}) and "
            f"{signatures.value:.1f} new signatures ({_range(signatures)}), if driver, rules and profiles stay as they are."
        ),
        Table(head, rows, frozenset(range(1, len(head)))),
        Text(
            "Chao's estimator and Good-Turing's, from how many were met in one run only and in two. They assume that runs are "
            "independent and alike. What was never met is a lower bound, and what needs a rule that does not exist is in none of "
            f"these numbers. Findings count over all runs of the newest {WINDOW} dates, states over a sample of the walk's."
        ),
    ]


def _forecast(name: str, item: Forecast) -> tuple[str, ...]:
    counts = item.counts
    return (
        name,
        f"{counts.samples:,}",
        f"{counts.seen:,}",
        f"{counts.once:,}",
        f"{counts.twice:,}",
        f"{item.unseen.value:,.0f} ({_range(item.unseen)})",
        f"{item.discovery.value:.2g} ({item.discovery.low:.2g} to {item.discovery.high:.2g})",
        f"{item.another.value:,.1f} ({_range(item.another)})",
    )


def _range(interval: Interval) -> str:
    high = "anything" if interval.high == inf else f"{interval.high:,.0f}"
    return f"{interval.low:,.0f} to {high}"


def _trend(books: Books, when: str, what: What) -> list[Block]:
    points = figures.trend(books, when, what)
    dates = [point.date for point in points]
    rows = [
        (p.date, f"{p.operations:,}", str(p.new), str(p.seen), str(p.fixed), str(p.total), p.odd) for p in reversed(points[-14:])
    ]
    head = ("night", "operations", "new", "there", "fixed", "signatures so far", "")
    pictures: list[Block] = [
        Picture(charts.over_nights("New findings", dates, [p.new for p in points], hot=True)),
        Picture(charts.over_nights("Operations", dates, [p.operations for p in points])),
    ]
    return [*(pictures if len(points) > 1 else []), Table(head, rows, frozenset({1, 2, 3, 4, 5}))]


# --- what was done ------------------------------------------------------------------------------------------------------------


_SHARDS = ("shard", "seed", "ended", "jobs", "seconds", "sessions", "workers", "peak MiB", "killed", "twice", "canaries", "corpus")
"""The columns of :func:`_shard`."""


def _work(nights: Night) -> list[Block]:
    rows = []
    for night in nights:
        for name, (portions, runs, operations, seconds) in night.gears.items():
            numbers = (portions, runs, operations, seconds, operations / seconds if seconds else 0)
            rows.append((night.shard, _code(name), *(f"{value:,.0f}" for value in numbers)))
    head = ("shard", "gear", "portions", "runs", "operations", "seconds of work", "operations/s")
    blocks: list[Block] = [Table(head, rows, frozenset(range(2, 7)))] if rows else [Text("No search.")]
    blocks.append(Table(_SHARDS, [_shard(night) for night in nights], frozenset(range(3, 10))))
    for night in nights:
        wrong = [f"portion {_code(name)} came out different when done again" for name in night.different]
        wrong += [f"failed: {_code(text)}" for text in night.failures]
        wrong += [f"kept trace: {_code(text)}" for text in night.corpus.get("problems", ())]
        missed = [trial for trial in night.canaries if not trial.get("found")]
        wrong += [f"canary {_code(trial.get('driver'))} not found in {trial.get('limit', 0):,} operations" for trial in missed]
        blocks += [Text(f"Shard {night.shard}: {text}.", warning=True) for text in wrong]
        if night.skipped:
            blocks.append(Text(f"Shard {night.shard}: {night.skipped:,} times a kind of hit was left for want of time."))
    return blocks


def _shard(night: NightRecord) -> tuple[str, ...]:
    own, workers = night.peaks[:1], night.peaks[1:]
    found = [trial for trial in night.canaries if trial.get("found")]
    canaries = ", ".join(f"{_code(trial.get('driver'))} after {trial.get('operations', 0):,}" for trial in found)
    corpus = night.corpus.get("said") or _count(night.corpus.get("traces", 0), "trace")
    return (
        night.shard,
        str(night.seed),
        night.ended,
        str(night.jobs),
        f"{night.seconds:,.0f} of {night.budget:,.0f}",
        str(night.sessions),
        str(len(workers)),
        f"{max(workers, default=0) / 1024:.0f}, job {max(own, default=0) / 1024:.0f}",
        str(night.killed),
        str(night.checks),
        canaries or "none found",
        str(corpus),
    )


def _never(nights: Night) -> list[Block]:
    tally = figures.tally_of(nights)
    if not tally.operations:
        return [Text("No search.")]
    missing = {what: names for what, names in tally.never().items() if names}
    if not missing:
        return [Text("Nothing: all rules, operations, properties and fault sites came up.")]
    return [Table(("", "never"), [(what, ", ".join(f"`{name}`" for name in names)) for what, names in missing.items()])]


def _branches(nights: Night) -> list[Block]:
    measured = [night.coverage for night in nights if night.coverage.get("branches")]
    if not measured:
        said = next((str(night.coverage["said"]) for night in nights if night.coverage.get("said")), "")
        return [Text(f"Not measured: {_code(said)}." if said else "Not measured: the night ended before.")]
    branches = max(int(item["branches"]) for item in measured)
    never = set(measured[0]["never"]).intersection(*(item["never"] for item in measured))
    runs = sum(int(item["runs"]) for item in measured)
    taken = branches - len(never)
    share = 100 * taken / branches if branches else 0.0
    unit = "lines" if measured[0].get("unit") == "lines" else "branches"
    blocks: list[Block] = [Text(f"{taken:,} of {branches:,} {unit} ({share:.1f} %) came up in a sample of {runs:,} runs.")]
    if never:
        blocks.append(Folded(f"{len(never)} {unit} that never came up", [Code("\n".join(sorted(never, key=_place)))]))
    return blocks


def _place(text: str) -> tuple[str, int, str]:
    name, _, rest = text.partition(":")
    number = rest.split(" ", 1)[0]
    return name, int(number) if number.isdecimal() else 0, rest


def _survival(books: Books, nights: Night) -> list[Block]:
    by_variant = figures.trials(books.ledger)
    if not by_variant:
        return [Text("No trial of the rota so far.")]
    everything = [item for items in by_variant.values() for item in items]
    seen = sum(item.seen for item in everything)
    median = quantile(everything, 50)
    missed = [name for name, items in by_variant.items() if not any(item.seen for item in items)]
    text = (
        f"{len(by_variant)} of {len(VARIANTS)} variants have come round so far; found in {seen} of {len(everything)} trials, "
        f"median {'' if median.exact else 'more than '}{median.value:,.0f} operations."
    )
    blocks: list[Block] = [Text(text)]
    if missed:
        blocks.append(Text(f"Never found so far: {', '.join(_code(name) for name in missed)}.", warning=True))
    end = max(item.value for item in everything)
    blocks.append(Picture(charts.survival("Trials that have found nothing yet, against operations", kaplan_meier(everything), end)))
    rows = [
        (_code(trial.get("driver")), "found" if trial.get("found") else "not found", f"{trial.get('operations', 0):,}")
        for night in nights
        for trial in night.rota
    ]
    if rows:
        blocks.append(Folded(f"{len(rows)} trials of this night", [Table(("variant", "", "operations"), rows, frozenset({2}))]))
    return blocks
