# SPDX-License-Identifier: GPL-2.0
"""A kernel's configuration, and the options of it that matter for DAMON."""

from __future__ import annotations

from damon_tests.damon.kernel_config import KernelConfig

VALUES = {
    "CONFIG_DAMON": "y",
    "CONFIG_DAMON_SYSFS": "y",
    "CONFIG_HZ": "250",
    "CONFIG_HZ_250": "y",
    "CONFIG_LRU_GEN_ENABLED": "y",
    "CONFIG_ZRAM": "m",
    "CONFIG_USB": "y",
    "CONFIG_SWAPFILE_OF_ANOTHER_KIND": "y",
}


def test_options_that_matter_are_named_without_prefix() -> None:
    config = KernelConfig("a test", VALUES)
    assert config.relevant == {
        "DAMON": "y",
        "DAMON_SYSFS": "y",
        "HZ": "250",
        "HZ_250": "y",
        "LRU_GEN_ENABLED": "y",
        "ZRAM": "m",
    }


def test_unknown_configuration_has_no_options() -> None:
    config = KernelConfig("not there", None)
    assert (config.relevant, config.digest, config.leaves_out("CONFIG_DAMON")) == ({}, "unknown", None)


def test_digest_depends_on_each_value() -> None:
    changed = KernelConfig("a test", VALUES | {"CONFIG_HZ": "1000"})
    assert changed.digest != KernelConfig("elsewhere", VALUES).digest
    assert KernelConfig("a test", dict(reversed(VALUES.items()))).digest == KernelConfig("b", VALUES).digest
