"""Reports of a run: a table for the terminal, sentences, figures, and one self-contained HTML page.

Everything here reads what `results.json` holds and nothing else: no labels, no scores, no texts.
"""

from elicit.reports.figures import draw_figures, write_figures
from elicit.reports.html import render_report, write_report
from elicit.reports.summary import plain_words
from elicit.reports.table import render_table

__all__ = ["draw_figures", "plain_words", "render_report", "render_table", "write_figures", "write_report"]
