"""A rendered person with known joints: demo clip, tests from pixels, and data sets seen through a pose estimator."""
