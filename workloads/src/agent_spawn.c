// SPDX-License-Identifier: GPL-2.0
/* Start a program: pipes, fork and exec. */
#define _GNU_SOURCE
#include "agent_procs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Runs between fork and exec of a multithreaded program: only async-signal-safe calls. */
static void __attribute__((noreturn)) child(const int theirs[FD_COUNT], char **argv, char **envp,
					    const char *cwd)
{
	struct sigaction reset = { .sa_handler = SIG_DFL };
	sigset_t none;
	int error;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &reset, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid(); /* so that its children can be killed with it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(theirs[FD_STDIN], 0);
	dup2(theirs[FD_STDOUT], 1);
	dup2(theirs[FD_STDERR], 2);
	if (!chdir(cwd)) {
		environ = envp; /* execvp() must search the new PATH */
		execvp(argv[0], argv);
	}
	error = errno;
	if (write(theirs[FD_STATUS], &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

void close_all(int fds[FD_COUNT])
{
	for (int i = 0; i < FD_COUNT; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static int open_pipes(int ours[FD_COUNT], int theirs[FD_COUNT])
{
	int ends[2], we_write;

	for (int i = 0; i < FD_COUNT; i++)
		ours[i] = theirs[i] = -1;
	for (int i = 0; i < FD_COUNT; i++) {
		if (pipe2(ends, O_CLOEXEC))
			return errno;
		we_write = i == FD_STDIN;
		ours[i] = ends[we_write];
		theirs[i] = ends[!we_write];
		fcntl(ours[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

int spawn_start(pid_t *pid, int fds[FD_COUNT], char **argv, char **envp, const char *cwd)
{
	int theirs[FD_COUNT];
	int error = open_pipes(fds, theirs);

	if (!error) {
		*pid = fork();
		if (*pid == 0)
			child(theirs, argv, envp, cwd);
		if (*pid < 0)
			error = errno;
	}
	close_all(theirs);
	if (error)
		close_all(fds);
	return error;
}
