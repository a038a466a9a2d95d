// SPDX-License-Identifier: GPL-2.0
/*
 * pipe_holder MIB: puts MIB MiB of its memory into pipes by vmsplice(2), prints
 * "ready", and leaves them there until its input ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB	1048576

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 0;
	char c;

	for (int i = 0; i < n; i++) {
		char *mem = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct iovec iov = { mem, MIB };
		int fds[2];

		if (mem == MAP_FAILED || pipe(fds) || fcntl(fds[1], F_SETPIPE_SZ, MIB) < 0) {
			perror("pipe_holder");
			return 1;
		}
		memset(mem, i, MIB);
		if (vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK) != MIB) {
			perror("pipe_holder: vmsplice");
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
