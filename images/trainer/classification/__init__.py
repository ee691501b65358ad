"""What systems share whose answer is one of a few classes: outputs, scores, and what a report shows of them."""
