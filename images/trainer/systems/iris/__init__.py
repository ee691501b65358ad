"""Irises: four lengths of a flower, three species."""
