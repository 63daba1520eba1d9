"""The routes of the API, a module a subject; each gives a router over the service."""
