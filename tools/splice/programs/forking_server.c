// SPDX-License-Identifier: GPL-2.0
/*
 * A pre-forking server for criu to dump and restore (scripts/guest-programs).
 *
 *	forking_server PORT		serves on 127.0.0.1:PORT until it is killed
 *	forking_server PORT COMMAND	sends COMMAND to it and prints the answer
 *
 * Its memory is of three kinds: shared between all processes, shared since the
 * fork, and private to each worker. The commands:
 *
 *	sum	checksum of the memory that all workers see; each worker also
 *		checks its private memory, and answers "bad" if that has changed
 *	touch N	writes to N pages of the shared and N of the private memory
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE		4096
#define WORDS		(PAGE / sizeof(uint64_t))
#define SHARED_PAGES	2048
#define FORKED_PAGES	4096
#define PRIVATE_PAGES	512
#define WORKERS		4

struct shared {
	uint64_t page[SHARED_PAGES][WORDS];
};

static struct shared *shared;
static uint64_t (*forked)[WORDS], (*private)[WORDS];

/* The first word of a page is the seed of the others. */
static void fill(uint64_t *page, uint64_t seed)
{
	page[0] = seed;
	for (size_t i = 1; i < WORDS; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		page[i] = seed;
	}
}

static int intact(const uint64_t *page, uint64_t seed)
{
	if (page[0] != seed)
		return 0;
	for (size_t i = 1; i < WORDS; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if (page[i] != seed)
			return 0;
	}
	return 1;
}

static void *memory(size_t pages, int flags)
{
	void *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return mem;
}

static uint64_t sum(void)
{
	const uint64_t *word = &shared->page[0][0];
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < SHARED_PAGES * WORDS; i++)
		hash = (hash ^ word[i]) * 1099511628211u;
	for (size_t i = 0; i < FORKED_PAGES * WORDS; i++)
		hash = (hash ^ forked[0][i]) * 1099511628211u;
	return hash;
}

static void answer(int fd, uint64_t worker, uint64_t *touched)
{
	char line[64] = "";
	unsigned long n;
	size_t have = 0;

	while (have < sizeof(line) - 1 && !memchr(line, '\n', have)) {
		ssize_t got = read(fd, line + have, sizeof(line) - 1 - have);

		if (got <= 0)
			return;
		have += got;
	}
	if (!strcmp(line, "sum\n")) {
		for (uint64_t i = 0; i < PRIVATE_PAGES; i++) {
			uint64_t seed = worker << 40 | i << 16;

			if (i < *touched)
				seed++;
			if (!intact(private[i], seed)) {
				dprintf(fd, "bad\n");
				return;
			}
		}
		dprintf(fd, "%016llx\n", (unsigned long long)sum());
	} else if (sscanf(line, "touch %lu", &n) == 1 && n <= PRIVATE_PAGES) {
		for (uint64_t i = 0; i < n; i++) {
			fill(shared->page[i], shared->page[i][0] + 1);
			fill(private[i], worker << 40 | i << 16 | 1);
		}
		if (n > *touched)
			*touched = n;
		dprintf(fd, "touched\n");
	} else {
		dprintf(fd, "unknown command\n");
	}
}

static void work(int listener, uint64_t worker)
{
	uint64_t touched = 0;

	for (uint64_t i = 0; i < PRIVATE_PAGES; i++)
		fill(private[i], worker << 40 | i << 16);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		answer(fd, worker, &touched);
		close(fd);
	}
}

static int ask(const struct sockaddr_in *address, const char *command)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char buf[64];
	ssize_t got;

	if (connect(fd, (const void *)address, sizeof(*address))) {
		perror("connect");
		return 1;
	}
	dprintf(fd, "%s\n", command);
	while ((got = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, got, stdout);
	return got < 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int listener, one = 1;

	if (argc < 2) {
		fprintf(stderr, "usage: forking_server PORT [COMMAND]\n");
		return 2;
	}
	address.sin_port = htons(atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (argc > 2)
		return ask(&address, argv[2]);

	shared = memory(SHARED_PAGES, MAP_SHARED);
	forked = memory(FORKED_PAGES, MAP_PRIVATE);
	private = memory(PRIVATE_PAGES, MAP_PRIVATE);
	for (uint64_t i = 0; i < SHARED_PAGES; i++)
		fill(shared->page[i], i << 20);
	for (uint64_t i = 0; i < FORKED_PAGES; i++)
		fill(forked[i], i << 20 | 7);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&address, sizeof(address))) {
		perror("bind");
		return 1;
	}
	if (listen(listener, 16)) {
		perror("listen");
		return 1;
	}
	for (uint64_t i = 1; i <= WORKERS; i++)
		if (fork() == 0)
			work(listener, i);
	for (;;)
		pause();
}
