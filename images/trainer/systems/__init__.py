"""What differs from one system to the next: a folder each, the same roles in all."""
