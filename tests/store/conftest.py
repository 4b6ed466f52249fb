"""A store of its own for each test, and no credentials of the person who runs the tests."""

from tests.support.models import no_credentials, settings, store

__all__ = ["no_credentials", "settings", "store"]
