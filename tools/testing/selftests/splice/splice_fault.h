/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Having allocations, and copies from and to user memory, fail in one call.
 *
 * /proc/thread-self/fail-nth has exactly the n-th of these fail, in the whole
 * call: n is counted up until the call gets through without a failure.
 */
#ifndef SPLICE_FAULT_H
#define SPLICE_FAULT_H

#include "splice_common.h"

/* The end of a loop that a bug might make endless. */
#define MAX_POINTS 5000

#define DEBUGFS "/sys/kernel/debug/"

/* A number that the kernel shows in a file of debugfs, as it was at first. */
struct setting {
	const char *file;
	const char *value;
	char before[32];
};

static struct setting settings[] = {
	/* All kinds of allocations, and without a dump of the stack for each. */
	{ .file = "failslab/ignore-gfp-wait", .value = "N" },
	{ .file = "failslab/cache-filter", .value = "N" },
	{ .file = "fail_page_alloc/ignore-gfp-wait", .value = "N" },
	{ .file = "fail_page_alloc/ignore-gfp-highmem", .value = "N" },
	{ .file = "fail_page_alloc/min-order", .value = "0" },
	{ .file = "failslab/verbose", .value = "0" },
	{ .file = "fail_page_alloc/verbose", .value = "0" },
	{ .file = "fail_usercopy/verbose", .value = "0" },
};

/* Returns the setting that cannot be made, or NULL. */
static inline const char *apply_settings(bool back)
{
	static char path[PATH_MAX];
	int i;

	for (i = 0; i < ARRAY_LEN(settings); i++) {
		struct setting *s = &settings[i];

		snprintf(path, sizeof(path), DEBUGFS "%s", s->file);
		if (back) {
			write_text(path, s->before);
			continue;
		}
		if (read_text(path, s->before, sizeof(s->before)) <= 0 ||
		    write_text(path, s->value) <= 0)
			return path;
	}
	return NULL;
}

/* For calls with ALL: "100", and "0" afterwards. Returns as above. */
static inline const char *set_probability(const char *percent)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	const char * const values[][2] = {
		{ "task-filter", "Y" }, { "times", "-1" },
		{ "probability", percent },
	};
	static char path[PATH_MAX];
	int i, j;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		for (j = 0; j < ARRAY_LEN(values); j++) {
			snprintf(path, sizeof(path), DEBUGFS "%s/%s", kinds[i],
				 values[j][0]);
			if (write_text(path, values[j][1]) <= 0)
				return path;
		}
	}
	return NULL;
}

/*
 * The call with its n-th point failing, none for 0, or every allocation for ALL.
 * It is made by a thread of its own: one that has no pipe yet for transfers
 * between files.
 */
#define ALL -1

struct shot {
	ssize_t (*call)(void *arg);
	void *arg;
	int n;
	ssize_t ret;
	ssize_t error;		/* of the thread itself */
	bool fired;
	bool done;
	pthread_t thread;
};

/* Of a struct shot: makes the system call of a struct job. */
static inline ssize_t call_job(void *arg)
{
	struct job *job = arg;

	__atomic_store_n(&job->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	return job_call(job);
}

static inline void *shoot(void *data)
{
	struct shot *shot = data;
	char stack[16384], buf[16], left[16] = "";
	ssize_t ret;
	int fd;

	/* It is the call that is to fail, and not a page fault of this. */
	memset(stack, 0, sizeof(stack));
	asm volatile("" : : "r"(stack) : "memory");
	snprintf(buf, sizeof(buf), "%d", abs(shot->n));
	fd = open(shot->n == ALL ? "/proc/thread-self/make-it-fail" :
				   "/proc/thread-self/fail-nth", O_RDWR);
	if (fd < 0) {
		shot->error = -errno;
		return NULL;
	}
	if (xwrite(fd, buf, strlen(buf)) < 0)
		shot->error = -errno;
	shot->ret = shot->call(shot->arg);
	__atomic_store_n(&shot->done, true, __ATOMIC_SEQ_CST);
	/* If this fails it was this that failed, and not the call. */
	ret = xread(fd, left, sizeof(left) - 1);
	shot->fired = shot->n > 0 && ret > 0 && !atoi(left);
	/* Fails only by taking the last point itself. */
	ret = xwrite(fd, "0", 1);
	if (ret != 1 && ret != -EFAULT)
		shot->error = ret;
	close(fd);
	return NULL;
}

static inline void fire_start(struct __test_metadata *_metadata,
			      struct shot *shot)
{
	shot->error = 0;
	shot->done = false;
	ASSERT_EQ(0, pthread_create(&shot->thread, NULL, shoot, shot));
}

static inline void fire_end(struct __test_metadata *_metadata,
			    struct shot *shot)
{
	ASSERT_EQ(0, pthread_join(shot->thread, NULL));
	ASSERT_EQ(0, shot->error);
}

static inline void fire(struct __test_metadata *_metadata, struct shot *shot)
{
	fire_start(_metadata, shot);
	fire_end(_metadata, shot);
}

/* Runs the tests of the program, if calls can be made to fail. */
static inline int fault_main(int argc, char **argv)
{
	const char *missing = NULL;
	cpu_set_t cpus;
	int ret;

	/* What one CPU frees of another's, the network may keep for a while. */
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		missing = "sched_setaffinity()";
	else if (access("/proc/self/fail-nth", W_OK))
		missing = "/proc/self/fail-nth";
	else
		missing = apply_settings(false);
	if (missing) {
		ksft_print_header();
		ksft_set_plan(1);
		ksft_test_result_skip("cannot use %s (CONFIG_FAULT_INJECTION)\n",
				      missing);
		ksft_finished();
	}
	ret = test_harness_run(argc, argv);
	apply_settings(true);
	return ret;
}

#endif /* SPLICE_FAULT_H */
