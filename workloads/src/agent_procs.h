/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by agent_spawn.c, which starts processes, and agent_procs.c, which does the rest. */
#ifndef AGENT_PROCS_H
#define AGENT_PROCS_H

#include "agent.h"

#include <sys/types.h>

/* Our ends of a process's pipes; FD_STATUS delivers the errno of a failed exec. */
enum { FD_STDIN, FD_STDOUT, FD_STDERR, FD_STATUS, FD_COUNT };

/* The errno, or 0 with the pid and our ends, which do not block. Whether exec worked comes later.
 */
int spawn_start(pid_t *pid, int fds[FD_COUNT], char **argv, char **envp, const char *cwd);
void close_all(int fds[FD_COUNT]);

#endif
