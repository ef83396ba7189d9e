"""A rendered person with known joints: demo clip, tests from pixels, and skeleton data seen through a pose estimator."""
