"""The egress log as tables, as a plot and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from fl_assets.reporting.html import Cell, Picture, Section, Table, render
from fl_assets.site.egress import EgressEntry
from fl_assets.site.egress_summary import summarise


def group_table(hospital: str, entries: Sequence[EgressEntry]) -> Table:
    """Return a row per day, kind and run."""
    groups = summarise(entries).by_day_kind_and_run
    columns = ["day (UTC)", "kind", "run", "messages", "bytes"]
    rows: list[list[Cell]] = [[g.day, g.kind, g.run, g.messages, g.bytes] for g in groups]
    return Table(f"What left {hospital}", columns, rows)


def message_table(hospital: str, entries: Sequence[EgressEntry]) -> Table:
    """Return a row per message."""
    columns = ["time (UTC)", "kind", "run", "what", "bytes", "sha256"]
    rows: list[list[Cell]] = [
        [f"{e.time:%Y-%m-%d %H:%M:%S}", e.kind, e.run, e.detail or None, e.size, e.sha256[:16]]
        for e in entries
    ]
    return Table(f"Messages that left {hospital}", columns, rows)


def egress_plot(hospital: str, entries: Sequence[EgressEntry]) -> Picture:
    """Return bytes per day and kind."""
    from fl_assets.reporting.egress_plots import bytes_per_day

    sizes: dict[str, dict[str, int]] = {}
    for entry in entries:
        of_kind, day = sizes.setdefault(entry.kind, {}), f"{entry.time:%Y-%m-%d}"
        of_kind[day] = of_kind.get(day, 0) + entry.size
    return Picture(bytes_per_day(sizes, hospital), "Bytes per day and kind")


def egress_page(hospital: str, entries: Sequence[EgressEntry], damages: Sequence[str]) -> str:
    """Return the log as one HTML page."""
    total = sum(entry.size for entry in entries)
    whole = "; ".join(damages) or "no entry was edited, none is missing before the newest one"
    return render(
        f"What left {hospital}",
        [
            Section(
                "Summary",
                f"{len(entries):,} messages, {total:,} bytes.\n\nThe log: {whole}.\n\nEach message "
                "was written down before it left. The log holds its size and hash, and not the "
                "message.",
                [group_table(hospital, entries)],
                [egress_plot(hospital, entries)],
            ),
            Section("Every message", tables=[message_table(hospital, entries)]),
        ],
    )
