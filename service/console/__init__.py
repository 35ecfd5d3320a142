"""The console: pages for people, which call the API from the browser like any other client."""
