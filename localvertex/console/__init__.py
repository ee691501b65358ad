"""The console: pages for a person with a browser, served beside the API and by the same services."""
