# SPDX-License-Identifier: GPL-2.0
"""One guest from QEMU's command line to a restored snapshot."""
