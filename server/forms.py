"""How reports look: as JSON, as CSV, and as a table for people."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

from agent.wire import iso
from server.dates import told
from server.online import Step
from server.periods import Period
from server.show import console, plain, table
from server.sla import Tally
from server.statement import Due, Row

_MINUTE_MS = 60_000
_MOST_FORMULAS = 20


def _minutes(lasted_ms: int) -> float:
    return round(lasted_ms / _MINUTE_MS, 3)


def _tally_body(tally: Tally) -> dict[str, object]:
    return {
        "availability_ratio": tally.availability,
        "numerator_min": _minutes(tally.up),
        "denominator_min": _minutes(tally.denominator),
        "down_min": _minutes(tally.down),
        "excluded_min": _minutes(tally.excluded),
        "excluded_maintenance_min": _minutes(tally.maintenance),
        "excluded_power_min": _minutes(tally.power),
        "excluded_grace_min": _minutes(tally.grace),
        "unmeasured_min": _minutes(tally.unmeasured),
    }


def _row_body(by: Sequence[str], row: Row) -> dict[str, object]:
    return {
        **dict(zip(by, row.names, strict=True)),
        "sites": row.sites,
        **_tally_body(row.tally),
        "promised_ratio": row.promised,
        "kept": row.kept,
        "site_months_judged": row.judged,
        "site_months_broken": row.broken,
        "restitution": [_due_body(due) for due in row.dues],
    }


def _due_body(due: Due) -> dict[str, object]:
    return {
        "currency": due.currency,
        "share": due.share,
        "price": due.price,
        "months": round(due.months, 6),
        "amount": round(due.amount, 2),
        "formula": due.formula,
    }


def _frame(period: Period) -> dict[str, object]:
    edges = {"from": iso(period.from_ms / 1000), "to": iso(period.to_ms / 1000)}
    return {**edges, "zone": period.zone}


def availability_body(
    period: Period, by: Sequence[str], rows: list[Row], whole: list[Row], *, same: bool | None
) -> dict[str, object]:
    """One object; `same` is what ``--recompute`` found."""
    return {
        **_frame(period),
        "by": by,
        "rows": [_row_body(by, row) for row in rows],
        "total": _row_body((), whole[0]) if whole else None,
        "same_as_ledger": same,
    }


def availability_csv(by: Sequence[str], rows: list[Row]) -> None:
    """A line of names, then one for each row; restitution as sums by currency."""
    bodies = [_row_body(by, row) for row in rows]
    for body, row in zip(bodies, rows, strict=True):
        body["restitution"] = _amounts(row)
    names = [*by, "sites", *_tally_body(Tally()), "promised_ratio", "kept"]
    names += ["site_months_judged", "site_months_broken", "restitution"]
    out = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    out.writeheader()
    out.writerows(bodies)


def _amounts(row: Row) -> str:
    sums: dict[str, float] = {}
    for due in row.dues:
        sums[due.currency] = sums.get(due.currency, 0.0) + due.amount
    return ", ".join(f"{amount:.2f} {currency}" for currency, amount in sums.items())


def availability_table(
    period: Period, by: Sequence[str], rows: list[Row], whole: list[Row]
) -> None:
    """The rows, their sum, and how each restitution comes about."""
    print(f"availability {_told(period)}")
    if not whole:
        print("no site was in the registry then")
        return
    figures = ("sites", "availability", "promised", "up min", "of min", "excluded", "unmeasured")
    out = table(*by, *figures, "kept", "restitution", right=(*figures, "restitution"))
    for row in rows:
        out.add_row(*map(plain, row.names), *_cells(row))
    if len(rows) > 1:
        out.add_row("all", *[""] * (len(by) - 1), *_cells(whole[0]), style="bold")
    console().print(out)
    _formulas(rows)


def _cells(row: Row) -> list[str]:
    tally = row.tally
    kept = {None: "", True: "yes", False: "[bold red]no[/]"}[row.kept]
    months = f"{row.broken} of {row.judged} months broken" if row.judged and row.broken else ""
    return [
        str(row.sites),
        _percent(tally.availability),
        _percent(row.promised),
        f"{tally.up / _MINUTE_MS:.1f}",
        f"{tally.denominator / _MINUTE_MS:.1f}",
        f"{tally.excluded / _MINUTE_MS:.1f}",
        f"{tally.unmeasured / _MINUTE_MS:.1f}",
        ", ".join(part for part in (kept, months) if part),
        _amounts(row),
    ]


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3%}"


def _formulas(rows: list[Row]) -> None:
    lines = [f"{' '.join(row.names)}: {due.formula}" for row in rows for due in row.dues]
    if lines:
        print("restitution = share x price x months")
    for line in lines[:_MOST_FORMULAS]:
        print(f"  {line}")
    if len(lines) > _MOST_FORMULAS:
        print(f"  and {len(lines) - _MOST_FORMULAS} more; --json has all")


def _told(period: Period) -> str:
    begin, end = (told(at / 1000, period.zone) for at in (period.from_ms, period.to_ms))
    return f"from {begin} to {end}"


def _step_body(step: Step) -> dict[str, object]:
    return {
        "from": iso(step.from_ms / 1000),
        "to": iso(step.to_ms / 1000),
        "online_ratio": step.online_ratio,
        "online_of_all_ratio": step.online_of_all_ratio,
        "sites_up": round(step.mean(step.up), 3),
        "sites_down": round(step.mean(step.down), 3),
        "sites_unmeasured": round(step.mean(step.unmeasured), 3),
    }


def _whole(steps: list[Step]) -> Step:
    sums = [sum(getattr(one, name) for one in steps) for name in ("up", "down", "unmeasured")]
    return Step(steps[0].from_ms, steps[-1].to_ms, *sums)


def online_body(period: Period, steps: list[Step]) -> dict[str, object]:
    """One object: the steps, and all of them together."""
    return {
        **_frame(period),
        "steps": [_step_body(step) for step in steps],
        "total": _step_body(_whole(steps)),
    }


def online_csv(steps: list[Step]) -> None:
    """A line of names, then one for each step."""
    bodies = [_step_body(step) for step in steps]
    out = csv.DictWriter(sys.stdout, list(bodies[0]), lineterminator="\n")
    out.writeheader()
    out.writerows(bodies)


def online_table(period: Period, steps: list[Step]) -> None:
    """The steps in local time, and all of them together."""
    print(f"online {_told(period)}")
    figures = ("of measured", "of all", "up", "down", "unmeasured")
    out = table("from", *figures, right=figures)
    for step in steps:
        out.add_row(told(step.from_ms / 1000, period.zone), *_step_cells(step))
    if len(steps) > 1:
        out.add_row("all", *_step_cells(_whole(steps)), style="bold")
    console().print(out)


def _step_cells(step: Step) -> list[str]:
    means = [step.mean(lasted) for lasted in (step.up, step.down, step.unmeasured)]
    ratios = (step.online_ratio, step.online_of_all_ratio)
    return [
        *("-" if ratio is None else f"{ratio:.1%}" for ratio in ratios),
        *(f"{mean:.1f}" for mean in means),
    ]
