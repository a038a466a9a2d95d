// SPDX-License-Identifier: GPL-2.0
/*
 * Sends standard input to standard output without copying the output: read(2)
 * fills a ring of buffers, vmsplice(2) and splice(2) pass references to them
 * on, and a buffer is filled again when the kernel reports that it no longer
 * uses it. If the kernel does not support SPLICE_F_NOTIFY, the data is written
 * by write(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/splice.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The default size of a pipe. */
#define CHUNK 65536
#define CHUNKS 16

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void write_all(const char *buf, size_t len)
{
	ssize_t n;

	for (; len; buf += n, len -= n) {
		n = write(STDOUT_FILENO, buf, len);
		if (n < 0)
			die("write");
	}
}

/* From now on the kernel uses the memory, until call *@number is released. */
static void send_all(int pipe[2], const char *buf, size_t len,
		     unsigned long long *number)
{
	struct iovec iov;
	ssize_t n, left;

	for (; len; buf += n, len -= n) {
		iov = (struct iovec) { (void *)buf, len };
		n = syscall(SYS_vmsplice, pipe[1], &iov, 1, SPLICE_F_NOTIFY);
		if (n < 0)
			die("vmsplice");
		++*number;
		for (left = n; left;) {
			ssize_t out = splice(pipe[0], NULL, STDOUT_FILENO, NULL,
					     left, SPLICE_F_MOVE);
			if (out <= 0)
				die("splice");
			left -= out;
		}
	}
}

static void wait_for(int fd, unsigned long long number)
{
	struct splice_notify_state st = {
		.flags = SPLICE_NOTIFY_WAIT, .number = number,
	};

	while (ioctl(fd, SPLICE_IOC_NOTIFY_STATE, &st))
		if (errno != EINTR)
			die("waiting for the release of a buffer");
}

int main(void)
{
	struct splice_notify_state st = {};
	/* The number of the last call for each buffer. */
	unsigned long long last[CHUNKS] = {};
	unsigned long long number = 0;
	int pipe_fds[2], slot;
	bool can_report;
	ssize_t len;
	char *ring;

	ring = mmap(NULL, CHUNK * CHUNKS, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		die("mmap");
	if (pipe(pipe_fds))
		die("pipe");
	can_report = !ioctl(pipe_fds[1], SPLICE_IOC_NOTIFY_STATE, &st);
	if (!can_report)
		fprintf(stderr, "no SPLICE_F_NOTIFY, using write(2)\n");

	for (slot = 0;; slot = (slot + 1) % CHUNKS) {
		char *buf = ring + slot * CHUNK;

		if (last[slot])
			wait_for(pipe_fds[1], last[slot]);
		len = read(STDIN_FILENO, buf, CHUNK);
		if (len < 0)
			die("read");
		if (!len)
			break;
		if (can_report) {
			send_all(pipe_fds, buf, len, &number);
			last[slot] = number;
		} else {
			write_all(buf, len);
		}
	}
	/* Before this point, only this process has the data. */
	if (number)
		wait_for(pipe_fds[1], number);
	return 0;
}
