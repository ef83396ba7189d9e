"""The live path: frames, pose, tracking, lifting, window, recognition, decision, recording. Never imports torch or Qt."""
