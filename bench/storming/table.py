"""The figures for people. Pure."""

from __future__ import annotations

from typing import Any


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    heads = (
        f"{'98 % in':>10}{'all in':>9}{'drained':>9}{'waiting':>9}"
        f"{'late p50':>9}{'p95':>6}{'max':>6}"
    )
    units = (
        f"{'s':>10}{'s':>9}{'s':>9}{'most':>9}{'s':>9}{'s':>6}{'s':>6}"
        + f"{'cores  most MiB':>16}" * 2
    )
    lines = [
        f"{'':32}{heads}{'broker':>16}{'ingest':>16}{'simulator':>18}",
        f"{'':32}{units}{'cores  late s':>18}",
    ]
    for row in rows:
        cells = [
            _cell(row["connected_98_s"], 10),
            _cell(row["all_connected_s"], 9),
            _cell(row["drained_s"], 9),
            f"{row['unreleased_most']:9}",
            _cell(row["late_p50_s"], 9),
            _cell(row["late_p95_s"], 6),
            _cell(row["late_max_s"], 6),
        ]
        line = f"{row['phase']:32}{''.join(cells)}"
        for name in ("broker", "ingest"):
            one = row[name]
            line += f"{one['cores_mean']:6.2f}{one['cores_5s_most']:5.2f}{one['rss_mib_most']:5}"
        lines.append(f"{line}{row['simulator']['cores_mean']:10.2f}{row['fleet_late_max_s']:8.1f}")
        lines += [f"{'':32}{name}: {row[name]}" for name in ("readings_per_s",) if name in row]
    return "\n".join(lines)


def _cell(value: float | None, width: int) -> str:
    return f"{'never' if value is None else value:>{width}}"
