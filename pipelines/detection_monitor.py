"""Watches the endpoint that finds objects: have its requests drifted from what its model was trained on?

Compares: the pictures' brightness, contrast, ink and size, and how many objects are found.
Takes: some seconds.
Expect: nothing, while the requests are like the training examples; else a record, and a post to the webhook if one is
    set. One line where nothing is logged: requests are where `logged_share` of detection is above 0.
Run: make run PIPELINE=detection_monitor
"""

from pipelines.monitor import monitor

detection_monitor = monitor("detection")
