// SPDX-License-Identifier: GPL-2.0
/*
 * A pre-forking server for criu to dump and restore (scripts/guest-programs).
 *
 *	forking_server FOLDER		serves two FIFOs that it creates in FOLDER
 *	forking_server FOLDER COMMAND	sends COMMAND to it and prints the answer
 *
 * A message is a record of RECORD bytes, so that each is read by one worker.
 * criu 4.1 cannot dump sockets of TCP on this kernel.
 *
 * Its memory is of three kinds: shared between all processes, shared since the
 * fork, and private to each worker. The commands:
 *
 *	sum	checksum of the memory that all workers see; each worker also
 *		checks its private memory, and answers "bad" if it has changed
 *	touch N	writes to N pages of the shared and N of the private memory
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD		64
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

static void answer(const char *line, char *said, uint64_t worker, uint64_t *touched)
{
	unsigned long n;

	if (!strcmp(line, "sum")) {
		for (uint64_t i = 0; i < PRIVATE_PAGES; i++) {
			uint64_t seed = worker << 40 | i << 16;

			if (i < *touched)
				seed++;
			if (!intact(private[i], seed)) {
				strcpy(said, "bad");
				return;
			}
		}
		snprintf(said, RECORD, "%016llx", (unsigned long long)sum());
	} else if (sscanf(line, "touch %lu", &n) == 1 && n <= PRIVATE_PAGES) {
		for (uint64_t i = 0; i < n; i++) {
			fill(shared->page[i], shared->page[i][0] + 1);
			fill(private[i], worker << 40 | i << 16 | 1);
		}
		if (n > *touched)
			*touched = n;
		strcpy(said, "touched");
	} else {
		strcpy(said, "unknown command");
	}
}

static void work(int requests, int answers, uint64_t worker)
{
	char line[RECORD], said[RECORD];
	uint64_t touched = 0;

	for (uint64_t i = 0; i < PRIVATE_PAGES; i++)
		fill(private[i], worker << 40 | i << 16);
	for (;;) {
		if (read(requests, line, RECORD) != RECORD)
			continue;
		line[RECORD - 1] = 0;
		memset(said, 0, RECORD);
		answer(line, said, worker, &touched);
		if (write(answers, said, RECORD) != RECORD)
			_exit(1);
	}
}

static int fifo(const char *folder, const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (flags & O_CREAT)
		mkfifo(path, 0600);
	fd = open(path, flags & ~O_CREAT);
	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static int ask(const char *folder, const char *command)
{
	int requests = fifo(folder, "requests", O_RDWR), answers = fifo(folder, "answers", O_RDWR);
	char record[RECORD] = "";

	snprintf(record, RECORD, "%s", command);
	if (write(requests, record, RECORD) != RECORD || read(answers, record, RECORD) != RECORD) {
		perror(folder);
		return 1;
	}
	record[RECORD - 1] = 0;
	puts(record);
	return 0;
}

int main(int argc, char **argv)
{
	int requests, answers;

	if (argc < 2) {
		fprintf(stderr, "usage: forking_server FOLDER [COMMAND]\n");
		return 2;
	}
	if (argc > 2)
		return ask(argv[1], argv[2]);

	shared = memory(SHARED_PAGES, MAP_SHARED);
	forked = memory(FORKED_PAGES, MAP_PRIVATE);
	private = memory(PRIVATE_PAGES, MAP_PRIVATE);
	for (uint64_t i = 0; i < SHARED_PAGES; i++)
		fill(shared->page[i], i << 20);
	for (uint64_t i = 0; i < FORKED_PAGES; i++)
		fill(forked[i], i << 20 | 7);

	requests = fifo(argv[1], "requests", O_RDWR | O_CREAT);
	answers = fifo(argv[1], "answers", O_RDWR | O_CREAT);
	for (uint64_t i = 1; i <= WORKERS; i++)
		if (fork() == 0)
			work(requests, answers, i);
	for (;;)
		pause();
}
