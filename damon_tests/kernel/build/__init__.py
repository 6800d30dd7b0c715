# SPDX-License-Identifier: GPL-2.0
"""Build a kernel from a source tree, and check out revisions of the tree.

``config`` merges the fragments of ``ci/kconfig``; ``make`` compiles in a build directory of the cache;
``diagnose`` reads the compiler's errors; ``checkout`` has commits of the tree in a directory of its own;
``uml`` runs a User Mode Linux.
"""
