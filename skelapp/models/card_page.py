"""The card of one checkpoint as a page to read, limits included."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from engine import paths
from engine.models.card import CheckpointCard, Decision
from skelapp import theme
from skelapp.live.action_card import readable
from skelapp.models.library import Entry
from skelapp.task import duration
from skelapp.widgets import rich_table


def _where(folder: Path) -> str:
    """What ships with the program is named relative to it."""
    return str(folder.relative_to(paths.PROJECT) if folder.is_relative_to(paths.PROJECT) else folder)


def _said(value: Any) -> str:
    """A value of a card in words: the parts of a mapping one after the other."""
    if isinstance(value, dict):
        return "; ".join(f"{readable(str(key)).lower()} {_said(part)}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _training_fact(key: str, value: Any) -> tuple[str, str]:
    if key == "seconds" and isinstance(value, int | float):
        return "Trained for", duration(value)
    return ("Learning rate" if key == "lr" else readable(key)), _said(value)


def _silence(rule: Decision) -> str:
    """When a finished action is taken back."""
    reasons = [f"its mean score was under {rule.min_score:.2f}"] if rule.min_score else []
    reasons += [f"its word stood for less than {rule.min_shown_s:g} s"] if rule.min_shown_s else []
    reasons += [f"it was shorter than {rule.min_s:g} s"] if rule.min_s else []
    return f" A finished action is taken back if {' or '.join(reasons)}." if reasons else ""


def _actions(card: CheckpointCard) -> str:
    """The classes; with how much of each is recognised where the card says so."""
    tables = {k: v for k, v in card.training.get("per_class", {}).items() if isinstance(v, dict)}
    if not tables:
        return f"<p>{escape(', '.join(readable(name) for name in card.classes))}</p>"
    heads = "".join(f"<th align='right'>{escape(readable(title))}</th>" for title in tables)
    rows = ""
    for name in card.classes:
        shares = [table.get(name) for table in tables.values()]
        cells = "".join(f"<td align='right'>{'–' if s is None else f'{100 * s:.0f} %'}</td>" for s in shares)
        rows += f"<tr><td>{escape(readable(name))}</td>{cells}</tr>"
    head = f"<tr><th align='left'>Recognised</th>{heads}</tr>"
    return rich_table(head + rows, padding=3)


def card_html(entry: Entry) -> str:
    """The page in the colours of the theme in force."""
    colours = theme.current()
    if entry.card is None:
        return f"<h2>{escape(entry.folder.name)}</h2><p>This checkpoint can't be used.</p><p>{escape(entry.error)}</p>"
    card = entry.card
    parts = [f"<h2>{escape(entry.title)}</h2>"]
    actions = sum(name != card.decision.idle_class for name in card.classes)
    facts = f"{card.method}, {card.backbone}, {card.preprocessing.stream.replace('_', ' ')} stream"
    parts.append(f"<p>{escape(facts)}; {actions} actions.</p>")
    if card.limits:
        parts.append(f"<h3>Limits</h3><p>{escape(card.limits)}</p>")
    if card.results:
        rows = "".join(
            f"<tr><td>{escape(r.name)}</td><td align='right'>{100 * r.top1:.1f} %</td>"
            f"<td align='right'>{f'{100 * r.top5:.1f} %' if r.top5 is not None else '–'}</td>"
            f"<td align='right'>{r.count}</td></tr>"
            for r in card.results
        )
        head = (
            "<tr><th align='left'>Measured on</th><th align='right'>Top 1</th>"
            "<th align='right'>Top 5</th><th align='right'>Count</th></tr>"
        )
        parts.append(rich_table(head + rows, "Results"))
    prep = card.preprocessing
    rule = card.decision
    parts += [
        "<h3>What it sees</h3>",
        f"<p>The last {prep.window_s:g} s as {prep.frames} frames of {escape(prep.layout)}, up to {prep.persons} "
        f"{'person' if prep.persons == 1 else 'persons'}; "
        f"centred: {escape(prep.centre)}; scaled: {escape(prep.scale)}.</p>",
        "<h3>When it speaks</h3>",
        f"<p>An action begins at a score of {rule.enter:.2f} and ends under {rule.leave:.2f}, averaged over "
        f"{rule.smoothing_s:g} s. "
        f"Standing still (under {rule.min_motion:g} trunk lengths per second) is no action.{_silence(rule)}</p>",
        "<h3>Actions</h3>",
        _actions(card),
        "<h3>Where it comes from</h3>",
    ]
    facts_rows = [
        ("Dataset", f"{card.dataset} {card.split}"),
        ("Trained on", ", ".join(card.trained_on)),
        *(_training_fact(key, value) for key, value in card.training.items() if key != "per_class"),
        *((readable(key), value) for key, value in card.versions.items()),
        ("Created", card.created),
        ("Licence", card.licence),
        ("Recipe", card.recipe_hash[:12]),
        ("Folder", _where(entry.folder)),
    ]
    parts.append("<table cellspacing='0' cellpadding='3'>")
    for name, value in facts_rows:
        if value:
            parts.append(
                f"<tr><td style='color:{colours.muted}'>{escape(name)}&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>"
            )
    parts.append("</table>")
    return "".join(parts)
