"""What runs inside the containers: one folder an image."""
