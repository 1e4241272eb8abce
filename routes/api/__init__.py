"""The REST API v1 and the OpenAI-compatible API: thin routes over the use cases that the pages call as well."""
