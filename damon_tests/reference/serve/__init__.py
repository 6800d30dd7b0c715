# SPDX-License-Identifier: GPL-2.0
"""The reference's tree as real files, for programs that know only the kernel's."""
