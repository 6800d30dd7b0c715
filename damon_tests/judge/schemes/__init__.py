# SPDX-License-Identifier: GPL-2.0
"""Judge what schemes did: regions tried, memory changed by each action, quotas and filters kept."""
