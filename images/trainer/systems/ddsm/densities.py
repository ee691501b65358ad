"""The densities of the breast, as the first BI-RADS put them: by the share of fibroglandular tissue, in quarters."""

CLASSES = ("1", "2", "3", "4")
