"""Builds ``assets/pose_landmarker_full.task`` from the models in a public wheel: nobody has to trust a blob.

MediaPipe 1.x ships no model. The Apache-2.0 wheel ``mediapipe==0.10.21`` holds both networks of the full pose
landmarker, but as plain TFLite files: the Tasks API refuses them until each says how its picture input is normalised.
This script installs that wheel in a temporary environment of its own (it wants an older numpy), lets its metadata
writer add those lines, and zips both files the way a ``.task`` bundle is: stored, fixed names, order and time stamps.

Usage: ``python assets/build_pose_bundle.py [--output FILE] [--check]``
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

SOURCE_WHEEL = "mediapipe==0.10.21"
OUTPUT = Path(__file__).resolve().parent / "pose_landmarker_full.task"
# The networks as they lie in the wheel; a different file means a different wheel, and the build stops.
SOURCE_SHA256 = {
    "pose_detection.tflite": "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
LOCAL_HEADER = 30
ALIGNMENT = 64
PADDING_FIELD = (0xD935).to_bytes(2, "little")  # the kind that zipalign uses
BUNDLE_SHA256 = "f89d4bd6786232c4e3905cad4af028a455c454e845df22caa18ce33200dc6a61"

# Runs inside the temporary environment. The detector takes pictures in -1..1, the landmark network in 0..1.
_ADD_METADATA = """
import sys
from pathlib import Path
import mediapipe
from mediapipe.tasks.python.metadata.metadata_writers.metadata_writer import MetadataWriter

package, target = Path(mediapipe.__file__).parent, Path(sys.argv[1])
for source, name, mean, std in (
    ("modules/pose_detection/pose_detection.tflite", "pose_detector.tflite", 127.5, 127.5),
    ("modules/pose_landmark/pose_landmark_full.tflite", "pose_landmarks_detector.tflite", 0.0, 255.0),
):
    plain = (package / source).read_bytes()
    (target / Path(source).name).write_bytes(plain)
    writer = MetadataWriter.create(bytearray(plain))
    writer.add_general_info(name.removesuffix(".tflite"), "Part of the MediaPipe pose landmarker (full).")
    writer.add_image_input([mean], [std])
    model, _ = writer.populate()
    (target / name).write_bytes(bytes(model))
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def models_with_metadata(folder: Path) -> dict[str, bytes]:
    """Install the source wheel under ``folder`` and return both networks with metadata, by bundle file name."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", SOURCE_WHEEL], check=True)
    models = folder / "models"
    models.mkdir()
    subprocess.run([python, "-c", _ADD_METADATA, str(models)], check=True)
    for source, digest in SOURCE_SHA256.items():
        found = sha256((models / source).read_bytes())
        if found != digest:
            raise SystemExit(f"{source} of {SOURCE_WHEEL} has sha256 {found}, expected {digest}")
    return {name: (models / name).read_bytes() for name in ("pose_detector.tflite", "pose_landmarks_detector.tflite")}


def write_bundle(models: dict[str, bytes], output: Path) -> str:
    """Write the stored zip and return its sha256; the same models give the same bytes on every machine.

    Every file starts at a multiple of ``ALIGNMENT`` bytes, so that TFLite can use the weights where they lie.
    """
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as bundle:
        for name in sorted(models):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            # The gap is an extra field of the local header: two bytes kind, two bytes length, zeros.
            data_at = bundle.fp.tell() + LOCAL_HEADER + len(name.encode()) + 4  # type: ignore[union-attr]
            gap = -data_at % ALIGNMENT
            entry.extra = PADDING_FIELD + gap.to_bytes(2, "little") + bytes(gap)
            bundle.writestr(entry, models[name])
    return sha256(output.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument(
        "--check",
        action="store_true",
        help="fail unless the result has the recorded sha256",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pose-bundle-") as folder:
        digest = write_bundle(models_with_metadata(Path(folder)), options.output)
    print(f"{digest}  {options.output}  ({options.output.stat().st_size} bytes)")
    if options.check and digest != BUNDLE_SHA256:
        print(f"expected sha256 {BUNDLE_SHA256}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
