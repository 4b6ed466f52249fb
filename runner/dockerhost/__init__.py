"""The one seam to the Docker Engine.

Every failure leaves it as one of the project's own errors; `DockerHost.translated` does that
for calls on the `docker` SDK's own objects.
"""

from __future__ import annotations

from runner.dockerhost.facts import DockerFacts
from runner.dockerhost.host import DockerHost
from runner.dockerhost.images import ImageFacts

__all__ = ["DockerFacts", "DockerHost", "ImageFacts"]
