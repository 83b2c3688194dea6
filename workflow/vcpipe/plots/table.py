"""The summary as one HTML page: sortable, without network, the best of each metric marked."""

from html import escape

import pandas as pd

from vcpipe.evaluation.metrics import METRICS
from vcpipe.evaluation.summary import best_models, wide_table
from vcpipe.plots.figures import LABELS, arrow

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>vcpipe: summary</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .35rem .7rem; border-bottom: 1px solid #ddd; text-align: left; }}
th {{ cursor: pointer; border-bottom: 2px solid #222; }}
th {{ vertical-align: bottom; }}
th:hover, th:focus {{ background: #eef5fa; }}
th[aria-sort=ascending]::after {{ content: " ▲"; }}
th[aria-sort=descending]::after {{ content: " ▼"; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.best {{ font-weight: bold; color: #005a8c; }}
.baseline {{ background: #f5f5f5; }}
.range {{ color: #666; font-size: 80%; font-weight: normal; white-space: nowrap; }}
</style>
</head>
<body>
<h1>Summary</h1>
<p>Mean over perturbations, the interval in small type; bold is the best of a dataset and split.
Arrows say which direction is better. Click a header to sort.</p>
<table>
<thead><tr>{header}</tr></thead>
<tbody>
{body}
</tbody>
</table>
<script>
const body = document.querySelector("tbody");
document.querySelectorAll("th").forEach((header, column) => {{
  const sort = () => {{
    const rising = header.getAttribute("aria-sort") !== "ascending";
    const key = row => row.cells[column].dataset.value;
    const compare = (a, b) => {{
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const order = key(a) - key(b) || key(a).localeCompare(key(b));
      return rising ? order : -order;
    }};
    document.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    [...body.rows].sort(compare).forEach(row => body.append(row));
  }};
  header.addEventListener("click", sort);
  header.addEventListener("keydown", event => {{ if (event.key === "Enter") sort(); }});
}});
</script>
</body>
</html>
"""


def summary_page(summary: pd.DataFrame) -> str:
    """Write the wide table: a row per model, a column per metric."""
    table = wide_table(summary)
    best = best_models(summary)
    rows = summary.set_index(["dataset", "split", "model", "metric"])
    header = [_header(name, name, "") for name in table.index.names]
    header += [
        _header(metric, LABELS[metric], f" {arrow(METRICS[metric].higher_is_better)}")
        for metric in table.columns
    ]
    lines = []
    for dataset, split, kind, model in table.index:
        cells = [
            f'<td data-value="{escape(t)}">{_folded(t)}</td>' for t in (dataset, split, kind, model)
        ]
        for metric in table.columns:
            is_best = (dataset, split, metric, model) in best
            place = (dataset, split, model, metric)
            cells.append(_number(rows.loc[place] if place in rows.index else None, is_best))
        lines.append(f'<tr class="{escape(kind)}">{"".join(cells)}</tr>')
    return PAGE.format(header="".join(header), body="\n".join(lines))


def _header(name: str, title: str, direction: str) -> str:
    number = ' class="number"' if direction else ""
    return f'<th{number} tabindex="0" title="{escape(title)}">{_folded(name)}{direction}</th>'


def _folded(name: str) -> str:
    """A name that a narrow column may break after its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _number(row: pd.Series | None, is_best: bool) -> str:
    if row is None or pd.isna(row["value"]):
        return '<td class="number" data-value="" title="undefined">–</td>'
    marked = " best" if is_best else ""
    interval = ""
    if not pd.isna(row["ci_low"]):
        interval = f'<br><span class="range">{row["ci_low"]:.3f} … {row["ci_high"]:.3f}</span>'
    return (
        f'<td class="number{marked}" data-value="{row["value"]:.9g}" '
        f'title="{row["n"]} perturbations">{row["value"]:.3f}{interval}</td>'
    )
