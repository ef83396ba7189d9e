"""The live path: frames, pose, tracking, lifting, window, recognition, decision, recording. No torch, no Qt."""
