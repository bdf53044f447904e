"""What a night says: a page from the books of a state directory, as Markdown or HTML (``hvmodel.document.py``)."""

from __future__ import annotations

from math import inf

from hvmodel.drivers.variants import VARIANTS
from hvmodel.jobs.nightly import charts, figures
from hvmodel.document import Block, Code, Folded, Page, Picture, Section, Table, Text
from hvmodel.jobs.nightly.estimate import Interval
from hvmodel.jobs.nightly.figures import Forecast
from hvmodel.jobs.nightly.join import Books
from hvmodel.jobs.nightly.ledger import EXCUSED, FIXED, KNOWN, NEW, Entry, NightRecord, simplest
from hvmodel.jobs.nightly.stories import story
from hvmodel.jobs.survival import kaplan_meier, quantile

STORIES = 25
"""So many new findings are told in full; the others are in the table, and all have their trace files."""

Night = list[NightRecord]


def page(books: Books, when: str, notes: list[str] | None = None) -> Page:
    """The summary of the night of a date, over all its shards. ``notes`` is what the job itself has to say."""
    nights = books.ledger.of_date(when)
    what = {} if _void(nights) else figures.tonight(books, when)
    verdict, mood = _verdict(nights, what)
    sections = [
        Section("New", _new(books, what, notes or [])),
        Section("Not new", _old(books, what, when)),
        Section("What another night would find", _estimates(books, when)),
        Section("Trend", _trend(books, when)),
        Section("What was done", _work(nights)),
        Section("Never reached", _never(nights)),
        Section("Branches of the driver", _branches(nights)),
        Section("Survival of variants", _survival(books, nights)),
    ]
    return Page(f"{books.ledger.driver}, night of {when}", verdict, mood, sections)


def _void(nights: Night) -> bool:
    return bool(nights) and all(night.ended == "void" for night in nights)


def _verdict(nights: Night, what: dict[str, list[str]]) -> tuple[str, str]:
    counts = {name: len(what.get(name, ())) for name in (NEW, KNOWN, FIXED, EXCUSED)}
    text = f"{counts[NEW]} new, {counts[KNOWN]} known, {counts[FIXED]} fixed, {counts[EXCUSED]} excused."
    different = sum(len(night.different) for night in nights)
    failures = sum(len(night.failures) for night in nights)
    if different or failures:
        parts = [f"{different} portions of work came out different when done again"] * bool(different)
        parts += [f"{failures} portions of work failed"] * bool(failures)
        return f"The harness erred: {'; '.join(parts)}. {text}", "bad"
    if _void(nights):
        return "Void: a canary was not found, so that finding nothing else would say nothing.", "odd"
    odd = [f"Shard {night.shard} was {_ENDED[night.ended]}." for night in nights if night.ended in _ENDED]
    broken = sum(len(night.corpus.get("problems", ())) for night in nights)
    if broken:
        odd.append(f"{broken} kept traces do not do what they say.")
    mood = "bad" if counts[NEW] or broken else "odd" if odd else "good"
    return " ".join([text, *odd]), mood


_ENDED = {"interrupted": "interrupted", "cut short": "cut short", "void": "void (a canary was not found)"}


# --- findings -----------------------------------------------------------------------------------------------------------------


def _new(books: Books, what: dict[str, list[str]], notes: list[str]) -> list[Block]:
    blocks: list[Block] = [Text(note, warning=True) for note in notes]
    entries = [books.ledger.entries[name] for name in what.get(NEW, ())]
    if not entries:
        return [*blocks, Text("Nothing.")]
    if len(entries) > 1:
        blocks.append(_table(entries))
    for entry in entries[:STORIES]:
        if len(entries) > 1:
            blocks.append(Text(f"`{entry.signature}`"))
        blocks += _told(books, entry)
    if len(entries) > STORIES:
        blocks.append(Text(f"{len(entries) - STORIES} more are in the table only."))
    return blocks


def _told(books: Books, entry: Entry) -> list[Block]:
    finding = entry.finding
    facts = [f"`{entry.signature}`", entry.severity, f"level {entry.level}"]
    if finding is not None and finding.assumptions:
        facts.append(f"assumes {'; '.join(finding.assumptions)}")
    if len(entry.seen) > 1:
        facts.append(f"first seen {entry.seen[0]}" + (f", gone on {max(entry.fixed)}" if entry.fixed else ""))
    excuse = books.excuses.get(entry.signature)
    if excuse is not None:
        facts.append(f"its excuse ran out on {excuse.until}: {excuse.reason}")
    return [
        Text(f"{entry.summary} ({', '.join(facts)})"),
        Code(story(entry, books.ledger.driver)),
        Text(f"Replay: `hvmodel replay traces/{entry.file}`"),
    ]


def _table(entries: list[Entry]) -> Table:
    rows = [(e.severity, f"`{e.signature}`", e.summary, str(e.operations), e.level, e.seen[0] if e.seen else "") for e in entries]
    return Table(("severity", "signature", "what happened", "ops", "level", "first seen"), rows, frozenset({3}))


def _old(books: Books, what: dict[str, list[str]], when: str) -> list[Block]:
    blocks: list[Block] = []
    fixed = [books.ledger.entries[name] for name in what.get(FIXED, ())]
    if fixed:
        blocks += [Text("Fixed: these do not fail any more on their traces, and the search did not find them."), _table(fixed)]
    excused = [books.excuses[name] for name in what.get(EXCUSED, ())]
    if excused:
        rows = [(f"`{item.signature}`", item.until, item.reason) for item in excused]
        blocks += [Text("Excused:"), Table(("signature", "until", "reason"), rows)]
    known = [books.ledger.entries[name] for name in what.get(KNOWN, ())]
    if known:
        kept = simplest(known)
        shown = [entry for entry in known if entry.signature in kept]
        covered = len(known) - len(shown)
        title = f"{len(known)} known findings" + (f", {covered} of which a simpler one covers" if covered else "")
        blocks.append(Folded(title, [_table(shown)]))
    return blocks or [Text(f"Nothing else was found on {when}.")]


# --- estimates and trend ------------------------------------------------------------------------------------------------------


def _estimates(books: Books, when: str) -> list[Block]:
    findings, states = figures.forecasts(books, when)
    if findings.counts.samples < 2:
        return [Text("Not estimated: no runs.")]
    rows = [_forecast("findings", findings)]
    if states.counts.samples >= 2:
        rows.append(_forecast("abstract states", states))
    another = findings.another
    return [
        Text(
            f"Another night of the same length finds about {another.value:.1f} new signatures "
            f"(95 % interval {_range(another)}), if driver, rules and profiles stay as they are."
        ),
        Table(("", "runs", "met", "once", "twice", "never met, at least", "new ones in the next run", "another night"), rows),
        Text(
            "Chao's estimator and Good-Turing's, from how many were met in one run only and in two. They assume that runs are "
            "independent and alike; *never met* is a lower bound, and what needs a rule that does not exist is in none of these "
            f"numbers. Signatures count over all runs of the newest {figures.WINDOW} nights, states over a sample of the walk's."
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


def _trend(books: Books, when: str) -> list[Block]:
    points = figures.trend(books, when)
    dates = [point.date for point in points]
    rows = [
        (p.date, f"{p.operations:,}", str(p.new), str(p.seen), str(p.fixed), str(p.total), p.odd) for p in reversed(points[-14:])
    ]
    head = ("night", "operations", "new", "there", "fixed", "signatures so far", "")
    return [
        Picture(charts.over_nights("New findings", dates, [p.new for p in points], [True] * len(points))),
        Picture(charts.over_nights("Operations", dates, [p.operations for p in points])),
        Table(head, rows, frozenset({1, 2, 3, 4, 5})),
    ]


# --- what was done ------------------------------------------------------------------------------------------------------------


def _work(nights: Night) -> list[Block]:
    rows = []
    for night in nights:
        for name, (portions, runs, operations, seconds) in night.gears.items():
            speed = f"{operations / seconds:,.0f}" if seconds else ""
            rows.append((night.shard, name, f"{portions:,.0f}", f"{runs:,.0f}", f"{operations:,.0f}", f"{seconds:,.0f}", speed))
    head = ("shard", "gear", "portions", "runs", "operations", "seconds of work", "operations/s")
    blocks: list[Block] = [Table(head, rows, frozenset(range(2, 7)))] if rows else [Text("No search.")]
    shards = [_shard(night) for night in nights]
    head = (
        "shard",
        "seed",
        "ended",
        "jobs",
        "seconds",
        "sessions",
        "workers, peak MiB",
        "killed",
        "done twice",
        "canaries",
        "corpus",
    )
    blocks.append(Table(head, shards))
    for night in nights:
        blocks += [Text(f"Shard {night.shard}: portion {name} came out different.", warning=True) for name in night.different]
        blocks += [Text(f"Shard {night.shard}: {text}", warning=True) for text in night.failures]
        blocks += [Text(f"Kept trace: {text}", warning=True) for text in night.corpus.get("problems", ())]
        blocks += [
            Text(f"Shard {night.shard}: canary {trial.get('driver')} not found in {trial.get('limit')} operations.", warning=True)
            for trial in night.canaries
            if not trial.get("found")
        ]
        if night.skipped:
            blocks.append(Text(f"Shard {night.shard}: {night.skipped:,} hits were not minimised for want of time."))
    return blocks


_SHARD_HEAD = (
    "shard",
    "seed",
    "ended",
    "jobs",
    "seconds",
    "sessions",
    "workers, peak MiB",
    "killed",
    "done twice",
    "canaries",
    "corpus",
)


def _shard(night: NightRecord) -> tuple[str, ...]:
    own, workers = night.peaks[:1], night.peaks[1:]
    peaks = f"{len(workers)}, {max(workers, default=0) / 1024:.0f} (job {max(own, default=0) / 1024:.0f})"
    canaries = ", ".join(f"{trial.get('driver')} {trial.get('operations')}" for trial in night.canaries if trial.get("found"))
    corpus = night.corpus.get("said") or f"{night.corpus.get('traces', 0)} traces"
    return (
        night.shard,
        str(night.seed),
        night.ended,
        str(night.jobs),
        f"{night.seconds:,.0f} of {night.budget:,.0f}",
        str(night.sessions),
        peaks,
        str(night.killed),
        str(night.checks),
        canaries or "not found",
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
        return [Text(said or "Not measured: the night ended before, the driver is not in Python, or coverage.py is not installed.")]
    branches = max(int(item["branches"]) for item in measured)
    never = set(measured[0]["never"]).intersection(*(item["never"] for item in measured))
    runs = sum(int(item["runs"]) for item in measured)
    taken = branches - len(never)
    share = 100 * taken / branches if branches else 0.0
    blocks: list[Block] = [Text(f"{taken} of {branches} branches ({share:.1f} %) were taken in a sample of {runs:,} runs.")]
    if never:
        blocks.append(Folded(f"{len(never)} branches never taken", [Code("\n".join(sorted(never, key=_place)))]))
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
        blocks.append(Text(f"Never found so far: {', '.join(f'`{name}`' for name in missed)}.", warning=True))
    end = max(item.value for item in everything)
    blocks.append(Picture(charts.survival("Trials that have found nothing yet, against operations", kaplan_meier(everything), end)))
    rows = [
        (str(trial.get("driver")), "found" if trial.get("found") else "not found", f"{trial.get('operations', 0):,}")
        for night in nights
        for trial in night.rota
    ]
    if rows:
        blocks.append(Folded(f"{len(rows)} trials of this night", [Table(("variant", "", "operations"), rows, frozenset({2}))]))
    return blocks
