"""Watches the endpoint that grades mammograms: have its requests drifted from what its model was trained on?

Compares: the pictures' brightness, contrast, ink and size, and the densities told.
Takes: some seconds.
Expect: nothing, while the requests are like the training examples; else a record, and a post to the webhook if one is
    set. One line where nothing is logged: requests are where `logged_share` of ddsm is above 0.
Run: make run PIPELINE=ddsm_monitor
"""

from pipelines.monitor import monitor

ddsm_monitor = monitor("ddsm")
