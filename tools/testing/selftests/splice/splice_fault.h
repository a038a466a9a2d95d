/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fault injection into one call: allocations, and copies from and to user
 * memory.
 *
 * /proc/thread-self/fail-nth makes exactly the n-th of these fail. A test
 * increases n until the call succeeds without a failure.
 */
#ifndef SPLICE_FAULT_H
#define SPLICE_FAULT_H

#include "splice_common.h"

/* The maximum number of points, for a bug that makes a loop endless. */
#define MAX_POINTS 5000

#define DEBUGFS "/sys/kernel/debug/"

/* A setting of fault injection in debugfs, and its value before the test. */
struct setting {
	const char *file;
	const char *value;
	char before[32];
};

static struct setting settings[] = {
	/* All kinds of allocations, without a stack dump for each failure. */
	{ .file = "failslab/ignore-gfp-wait", .value = "N" },
	{ .file = "failslab/cache-filter", .value = "N" },
	{ .file = "fail_page_alloc/ignore-gfp-wait", .value = "N" },
	{ .file = "fail_page_alloc/ignore-gfp-highmem", .value = "N" },
	{ .file = "fail_page_alloc/min-order", .value = "0" },
	{ .file = "failslab/verbose", .value = "0" },
	{ .file = "fail_page_alloc/verbose", .value = "0" },
	{ .file = "fail_usercopy/verbose", .value = "0" },
};

/* Returns the path of a setting that cannot be changed, or NULL. */
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

/*
 * For calls with ALL: "100", and "0" afterwards. Returns a path or NULL, too.
 */
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
 * A call whose n-th point fails, none for 0, or every allocation for ALL. A new
 * thread makes it, because a thread keeps a pipe for transfers between files.
 */
#define ALL -1

struct shot {
	ssize_t (*call)(void *arg);
	void *arg;
	int n;
	ssize_t ret;
	ssize_t error;		/* of the fault injection files */
	bool fired;
	bool done;
	pthread_t thread;
};

/* The function for a struct shot that makes the system call of a struct job. */
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

	/* Map the stack now, so that a page fault is not one of the points. */
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
	/* If this read() fails, the fault hit it and not the call. */
	ret = xread(fd, left, sizeof(left) - 1);
	shot->fired = shot->n > 0 && ret > 0 && !atoi(left);
	/* This write() fails only if the fault hits it. */
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

/* A call of which each point is made to fail, and what surrounds it. */
struct trial {
	/* Puts data where the call finds it. */
	void (*prepare)(struct __test_metadata *_metadata, void *scene);
	ssize_t (*call)(void *scene);
	/* Whether the call may return @ret after a failure. */
	bool (*is_expected)(const void *scene, ssize_t ret);
	/* Calls without a failure do the rest, and nothing is lost or left. */
	void (*finish)(struct __test_metadata *_metadata, void *scene,
		       ssize_t ret);
	void *scene;
};

/*
 * Makes each point of a call fail, one after the other, until the call has no
 * more of them. Returns how many times the call failed.
 */
static inline int fire_every_point(struct __test_metadata *_metadata,
				   const struct trial *t)
{
	struct shot shot = { .call = t->call, .arg = t->scene, .n = 0 };
	int errors = 0;

	do {
		t->prepare(_metadata, t->scene);
		fire(_metadata, &shot);
		if (!shot.fired)
			ASSERT_LE(0, shot.ret);
		ASSERT_TRUE(t->is_expected(t->scene, shot.ret)) {
			TH_LOG("with point %d failing it returned %zd", shot.n,
			       shot.ret);
		}
		if (shot.ret < 0)
			errors++;
		t->finish(_metadata, t->scene, shot.ret);
		ASSERT_NE(KSFT_FAIL, _metadata->exit_code) {
			TH_LOG("with point %d failing", shot.n);
		}
		ASSERT_GT(MAX_POINTS, ++shot.n);
	} while (shot.n == 1 || shot.fired);
	TH_LOG("%d points, %d of them an error of the call", shot.n - 2,
	       errors);
	return errors;
}

/* Makes all allocations of a call fail. */
static inline void fire_all_at_once(struct __test_metadata *_metadata,
				    const struct trial *t)
{
	struct shot shot = { .call = t->call, .arg = t->scene, .n = ALL };

	t->prepare(_metadata, t->scene);
	ASSERT_EQ(NULL, set_probability("100"));
	fire(_metadata, &shot);
	ASSERT_EQ(NULL, set_probability("0"));
	EXPECT_TRUE(t->is_expected(t->scene, shot.ret)) {
		TH_LOG("it returned %zd", shot.ret);
	}
	t->finish(_metadata, t->scene, shot.ret);
}

/* Runs the tests of the program, if fault injection is available. */
static inline int fault_main(int argc, char **argv)
{
	const char *missing = NULL;
	cpu_set_t cpus;
	int ret;

	/*
	 * Use one CPU: the network may keep memory that another CPU has freed.
	 */
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
