"""The promise of the first minute: the shipped encoder names the demo clip's actions rightly, from pixels."""

import json

import pytest

from engine.cli import entry
from engine.paths import DEMO_CLIP


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demo_is_named_rightly(tmp_path):
    out = tmp_path / "demo.jsonl"
    assert entry(["recognize", str(DEMO_CLIP), "--json", str(out)]) == 0
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    segments = [record["segment"] for record in records if "segment" in record]
    scenes = json.loads(DEMO_CLIP.with_suffix(".json").read_text("utf-8"))["scenes"]
    assert len(scenes) >= 5
    for scene in scenes:
        during = [s["label"] for s in segments if s["start"] < scene["end"] + 0.5 and s["end"] > scene["start"]]
        assert scene["label"] in during, f"{scene}: recognised {during}"
    summary = records[-1]["summary"]
    assert summary["pose_frames"] == summary["frames"] > 500
    assert {s["person"] for s in segments} == {1}
