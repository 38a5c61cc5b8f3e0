"""The HTTP server: OpenAI-compatible endpoints, and a page for the browser (extra `serve`)."""
