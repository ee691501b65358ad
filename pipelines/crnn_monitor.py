"""Watches the endpoint that reads words: have its requests drifted from what its model was trained on?

Compares: the pictures' brightness, contrast, ink and size, and the length of the words read.
Takes: some seconds.
Expect: nothing, while the requests are like the training examples; else a record, and a post to the webhook if one is
    set. One line where nothing is logged: requests are where `logged_share` of crnn is above 0.
Run: make run PIPELINE=crnn_monitor
"""

from pipelines.monitor import monitor

crnn_monitor = monitor("crnn")
