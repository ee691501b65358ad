"""Watches the endpoint that reads digits: have its requests drifted from what its model was trained on?

Compares: the pictures' brightness, contrast, ink and size, and the digits read.
Takes: some seconds.
Expect: nothing, while the requests are like the training examples; else a record, and a post to the webhook if one is
    set. One line where nothing is logged: requests are where `logged_share` of mnist is above 0.
Run: make run PIPELINE=mnist_monitor
"""

from pipelines.monitor import monitor

mnist_monitor = monitor("mnist")
