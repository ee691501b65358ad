"""Benchmarks: ratios of two things measured in the same run, so that they hold on any machine."""
