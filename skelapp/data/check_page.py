"""The page *Check*: what the examination of a store found, in words, worst first."""

from __future__ import annotations

from html import escape
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QTextOption
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QTextBrowser, QVBoxLayout, QWidget

from skelapp import theme
from skelapp.data.jobs import Job
from skelapp.widgets import button, rich_table

_EMPTY = (
    "A check compares the counts with the published ones, reads every coordinate, compares checksums, and searches the "
    "test parts for copies of training data."
)


class CheckPage(QWidget):
    """Shows a report as ``data check --json`` gives it."""

    asked = Signal(bool)  # compare every sequence with every other

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: dict[str, Any] | None = None
        self._text = ""
        self.start = button("Check this store", lambda: self.asked.emit(self.thorough.isChecked()), primary=True)
        self.thorough = QCheckBox("Compare every sequence with every other")
        self.thorough.setToolTip("Also finds parts and noisy copies. Seconds for small sets, many minutes for NTU.")
        self.copy = button("Copy report", self._copy)
        self.note = QLabel()
        self.note.setProperty("role", "muted")
        self.page = QTextBrowser()
        self.page.setOpenLinks(False)
        self.page.setAccessibleName("Report of the check")
        self.page.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.page.document().setDocumentMargin(16)
        self.page.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        bar = QHBoxLayout()
        bar.addWidget(self.start)
        bar.addWidget(self.thorough)
        bar.addWidget(self.note, 1)
        bar.addWidget(self.copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(bar)
        layout.addWidget(self.page, 1)
        self.show_report(None)

    def show_store(self, sequences: int, limit: int, report: dict[str, Any] | None, job: Job | None) -> None:
        """Show the last report of a store, and whether a new one is being made."""
        self.start.setEnabled(job is None)
        self.thorough.setEnabled(job is None)
        self.thorough.setChecked(sequences <= limit)
        self.show_report(report)

    def show_report(self, report: dict[str, Any] | None) -> None:
        self.report = report
        self.copy.setVisible(report is not None)
        self.start.setText("Check again" if report else "Check this store")
        self.page.setHtml(report_html(report) if report else f"<p>{escape(_EMPTY)}</p>")

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.page.toPlainText())

    def retheme(self) -> None:
        self.show_report(self.report)


def verdict(report: dict[str, Any]) -> str:
    """The result in one sentence."""
    if report["problems"]:
        return "This store is damaged and should be prepared again."
    if report["gaps"]:
        return "Sound, but not the complete set."
    return "Complete and sound."


def report_html(report: dict[str, Any]) -> str:
    """A report as a page in the theme's colours."""
    now = theme.current()
    colour = now.danger if report["problems"] else now.text
    parts = [f"<h2 style='color:{colour}'>{escape(verdict(report))}</h2>"]
    for title, key, mark in (
        ("Problems", "problems", "✕"),
        ("Not complete", "gaps", "△"),
        ("Worth knowing", "notes", "•"),
    ):
        if report[key]:
            items = "".join(f"<p>{mark}&nbsp;&nbsp;{escape(_sentence(text))}</p>" for text in report[key])
            parts.append(f"<h3>{title}</h3>{items}")
    parts.append(_splits_html(report, now.muted))
    expected = report.get("expected_sequences")
    facts = [
        ("Sequences", f"{report['sequences']:,}" + (f" of {expected:,} published" if expected else "")),
        ("Frames", f"{report['frames']:,}"),
        (
            "Length",
            f"{report['length']['min']} to {report['length']['max']} frames, median {report['length']['median']:g}",
        ),
        ("Bodies", ", ".join(f"{n:,} with {count}" for count, n in report["bodies_per_sequence"].items())),
        ("Files", "as written" if not report["damaged_files"] else f"changed: {', '.join(report['damaged_files'])}"),
        ("Coordinates", "all finite" if report["finite"] else "some are not numbers"),
    ]
    rows = "".join(
        f"<tr><td style='color:{now.muted}'>{escape(name)}&nbsp;&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>"
        for name, value in facts
    )
    parts.append(rich_table(rows, "Counted", 3, wide=False))
    if report["damaged"]:
        items = "".join(f"<p>{escape(entry['reason'])}</p>" for entry in report["damaged"][:50])
        more = len(report["damaged"]) - 50
        parts.append(f"<h3>Left out as damaged</h3>{items}" + (f"<p>and {more} more</p>" if more > 0 else ""))
    return "".join(parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _splits_html(report: dict[str, Any], muted: str) -> str:
    rows = []
    for name, found in report["splits"].items():
        if "unavailable" in found:
            rows.append(f"<tr><td>{escape(name)}</td><td colspan='4'>{escape(found['unavailable'])}</td></tr>")
            continue
        shared = found.get("test_sharing_frames_with_train", found["test_copies_of_train"])
        expected = found["expected"]
        agrees = (
            "–" if not expected else "as published" if [found["train"], found["test"]] == list(expected) else "differs"
        )
        rows.append(
            f"<tr><td>{escape(name)}</td><td align='right'>{found['train']:,}</td>"
            f"<td align='right'>{found['test']:,}</td><td align='right'>{shared:,}</td><td>&nbsp;{agrees}</td></tr>"
        )
    if not rows:
        return ""
    head = "".join(
        f"<th align='{side}' style='color:{muted}'>{text}</th>"
        for side, text in (
            ("left", "Split"),
            ("right", "Train"),
            ("right", "Test"),
            ("right", "Test in train"),
            ("left", "&nbsp;Counts"),
        )
    )
    return rich_table(f"<tr>{head}</tr>{''.join(rows)}", "Splits")
