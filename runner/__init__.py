"""Runs local AI models: engines in containers, models as OCI artifacts, one OpenAI endpoint."""

__version__ = "0.1.0"
