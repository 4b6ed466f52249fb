"""Files of the host that engines need beside the devices that are theirs alone."""

from __future__ import annotations

from dataclasses import dataclass

from runner.hardware.gpu import Vendor


@dataclass(frozen=True, slots=True)
class HostPath:
    """A file or folder of the host, in the container under the same name. An `optional` one is
    left out where the host has none."""

    path: str
    optional: bool = False


COMMON_NODES = {
    Vendor.AMD: (HostPath("/dev/kfd"),),
    Vendor.ASCEND: (
        HostPath("/dev/davinci_manager"),
        HostPath("/dev/devmm_svm"),
        HostPath("/dev/hisi_hdc"),
        *(
            HostPath(f"/dev/{name}", optional=True)
            for name in ("davinci_manager_docker", "dvpp_cmdlist", "uburma", "ummu")
        ),
    ),
}
DRIVER_FILES = {
    Vendor.ASCEND: (
        HostPath("/usr/local/Ascend/driver/lib64"),
        HostPath("/usr/local/Ascend/driver/version.info"),
        *(
            HostPath(path, optional=True)
            for path in (
                "/usr/local/Ascend/driver/include",
                "/usr/local/Ascend/driver/topo",
                "/usr/local/dcmi",
                "/usr/local/bin/npu-smi",
                "/usr/local/sbin/npu-smi",
                "/etc/ascend_install.info",
                "/etc/hccl_rootinfo.json",
                "/var/queue_schedule",
            )
        ),
    ),
}
"""Ascend's images hold no driver libraries: they have to be the kernel driver's own."""

BY_PATH = HostPath("/dev/dri/by-path", optional=True)
"""Where Intel's oneCCL looks up which cards are neighbours."""
