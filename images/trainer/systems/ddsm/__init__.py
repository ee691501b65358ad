"""Breast density: mammograms put into one of four classes by their share of fibroglandular tissue."""
