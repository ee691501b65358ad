"""Watches the endpoint that tells irises apart: have its requests drifted from what its model was trained on?

Compares: each column of the rows, and the species told.
Takes: some seconds.
Expect: nothing, while the requests are like the training examples; else a record, and a post to the webhook if one is
    set. One line where nothing is logged: requests are where `logged_share` of iris is above 0.
Run: make run PIPELINE=iris_monitor
"""

from pipelines.monitor import monitor

iris_monitor = monitor("iris")
