"""The tabs of a comparison as tables: whatever is drawn can be taken along as CSV."""

from __future__ import annotations

from collections.abc import Iterator

from skelapp.models.report import Report
from skelapp.tables import csv_text


def overview_csv(report: Report) -> str:
    """One line per checkpoint."""
    head = ("checkpoint", "sequences", "accuracy", "calibration error", "mean score")
    rows = (
        [m["name"], report.values["count"], m["top1"], m["calibration_error"], m["mean_score"]] for m in report.models
    )
    return csv_text(head, rows)


def classes_csv(report: Report) -> str:
    """Accuracy per class of every checkpoint."""
    head = ["class", "sequences", *(model["name"] for model in report.models), "difference of the first two"]
    rows = (
        [
            name,
            sum(report.models[0]["confusion"][i]),
            *(model["per_class"][i] for model in report.models),
            report.first_pair["class_difference"][i],
        ]
        for i, name in enumerate(report.classes)
    )
    return csv_text(head, rows)


def confusion_csv(report: Report) -> str:
    """One line per checkpoint, true class and answer that was given."""

    def rows() -> Iterator[list[object]]:
        answers = [*report.classes, "a class the others don't know"]
        for model in report.models:
            for true, counts in zip(report.classes, model["confusion"], strict=True):
                for said, count in zip(answers, counts):
                    if count:
                        yield [model["name"], true, said, count]

    return csv_text(("checkpoint", "class", "named", "sequences"), rows())


def calibration_csv(report: Report) -> str:
    """One line per checkpoint and bin of scores."""

    def rows() -> Iterator[list[object]]:
        for model in report.models:
            curve = model["reliability"]
            bins = len(curve["count"])
            for i, count in enumerate(curve["count"]):
                yield [model["name"], i / bins, (i + 1) / bins, count, curve["score"][i], curve["accuracy"][i]]

    return csv_text(("checkpoint", "score from", "score to", "sequences", "mean score", "accuracy"), rows())


def map_csv(report: Report) -> str:
    """One line per checkpoint and sequence of the map."""

    def rows() -> Iterator[list[object]]:
        names = report.values["sequences"]["names"]
        for number, model in enumerate(report.models):
            for row, (x, y) in zip(report.values["map_rows"], model["map"], strict=True):
                true = report.classes[report.labels[row]]
                yield [model["name"], names[row], true, report.answer(number, row), x, y]

    return csv_text(("checkpoint", "sequence", "class", "named", "x", "y"), rows())


# By the name of the tab.
TAB_CSV = {
    "Overview": overview_csv, "Classes": classes_csv, "Confusion": confusion_csv, "Calibration": calibration_csv,
    "Map": map_csv,
}  # fmt: skip
