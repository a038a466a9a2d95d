// SPDX-License-Identifier: GPL-2.0
/*
 * Reads commands from a pipe as dash does since 0.5.13, which is newer than the
 * one of Debian 13: tee(2) duplicates the input to another pipe, in which the
 * program finds the end of the line. It then reads only that line from the input,
 * so that a command of the script can read the rest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE	8192

static int look[2];

/* Reads a line, including its end; returns 0 at the end of the input. */
static size_t next_line(char *line, size_t size)
{
	size_t have = 0;

	while (have < size - 1) {
		char seen[SIZE];
		ssize_t there = tee(0, look[1], SIZE, 0), got = 0;
		char *end;

		if (there < 0) {
			perror("tee");
			exit(1);
		}
		if (!there)
			break;
		while (got < there) {
			ssize_t part = read(look[0], seen + got, there - got);

			if (part <= 0) {
				fprintf(stderr, "tee_input: %zd bytes of %zd\n", got, there);
				exit(1);
			}
			got += part;
		}
		end = memchr(seen, '\n', there);
		if (end)
			there = end - seen + 1;
		if (have + there > size - 1) {
			fprintf(stderr, "tee_input: line too long\n");
			exit(1);
		}
		if (read(0, line + have, there) != there) {
			fprintf(stderr, "tee_input: the input is not what it was\n");
			exit(1);
		}
		if (memcmp(line + have, seen, there)) {
			fprintf(stderr, "tee_input: the input changed\n");
			exit(1);
		}
		have += there;
		if (end)
			break;
	}
	line[have] = 0;
	return have;
}

int main(void)
{
	static char line[65536];
	int status;

	if (pipe2(look, O_CLOEXEC)) {
		perror("pipe");
		return 1;
	}
	while (next_line(line, sizeof(line))) {
		status = system(line);
		if (status) {
			fprintf(stderr, "tee_input: status %d: %s", status, line);
			return 1;
		}
	}
	return 0;
}
