// SPDX-License-Identifier: GPL-2.0
/*
 * Moves data through code that only the options of the kernels full and full-c
 * enable. Prints TAP.
 *
 *	options_test ksm|memcg|seccomp|bpf FOLDER
 *
 * FOLDER is on a disk.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB	1024UL
#define MIB	(KIB * KIB)
#define PAGE	4096UL
#define CHUNK	(64 * KIB)

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

static int tests;

static void expect(int good, const char *what)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++tests, what);
	if (!good && errno)
		printf("# %s\n", strerror(errno));
	fflush(stdout);
}

static void need(int good, const char *what)
{
	if (good)
		return;
	expect(0, what);
	printf("1..%d\n", tests);
	exit(1);
}

/* Each page has a different content. */
static void fill(char *mem, size_t size)
{
	uint64_t x = 88172645463325252;

	for (size_t i = 0; i + 8 <= size; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(mem + i, &x, 8);
	}
}

static char *memory(size_t size)
{
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(mem != MAP_FAILED, "memory");
	return mem;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

static long get(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0)
		return -1;
	close(fd);
	return atol(buf);
}

static int file(const char *folder, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/options_%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	need(fd >= 0, path);
	return fd;
}

static int same(int fd, const char *mem, size_t size)
{
	static char got[CHUNK];
	size_t at = 0;
	ssize_t n;

	while ((n = pread(fd, got, CHUNK, at)) > 0) {
		if (at + n > size || memcmp(got, mem + at, n))
			return 0;
		at += n;
	}
	return !n && at == size;
}

/* Splices SIZE bytes from FROM to TO. */
static int splice_all(int from, int to, size_t size)
{
	while (size) {
		ssize_t n = splice(from, NULL, to, NULL, size, 0);

		if (n <= 0)
			return 0;
		size -= n;
	}
	return 1;
}

static int file_by_pipe(int from, int to, size_t size)
{
	int fds[2], good = 1;

	need(!pipe(fds), "pipe");
	while (good && size) {
		ssize_t n = splice(from, NULL, fds[1], NULL, size < CHUNK ? size : CHUNK, 0);

		good = n > 0 && splice_all(fds[0], to, n);
		size -= good ? n : 0;
	}
	close(fds[0]);
	close(fds[1]);
	return good;
}

static int memory_by_pipe(char *mem, size_t size, int to)
{
	int fds[2], good = 1;

	need(!pipe(fds), "pipe");
	for (size_t at = 0; good && at < size; ) {
		struct iovec iov = { mem + at, size - at < CHUNK ? size - at : CHUNK };
		ssize_t n = vmsplice(fds[1], &iov, 1, 0);

		good = n > 0 && splice_all(fds[0], to, n);
		at += good ? n : 0;
	}
	close(fds[0]);
	close(fds[1]);
	return good;
}

#define KSM "/sys/kernel/mm/ksm/"

static void ksm(const char *folder)
{
	size_t size = 4 * MIB, pages = size / PAGE;
	char *one = memory(size), *two = memory(size), page[PAGE], old[PAGE];
	long before, shared = 0;
	struct iovec iov = { one, PAGE };
	int fds[2], fd = file(folder, "ksm");

	fill(one, size);
	memcpy(two, one, size);
	need(put(KSM "sleep_millisecs", "10") && put(KSM "pages_to_scan", "10000"), "settings");
	need(!madvise(one, size, MADV_MERGEABLE) && !madvise(two, size, MADV_MERGEABLE), "madvise");
	/* Unmerge the pages of earlier runs. */
	need(put(KSM "run", "2"), "unmerge");
	before = get(KSM "pages_sharing");
	put(KSM "run", "1");
	for (int i = 0; i < 600 && shared < (long)pages; i++) {
		usleep(100000);
		shared = get(KSM "pages_sharing") - before;
	}
	put(KSM "run", "0");
	errno = 0;
	expect(shared == (long)pages, "all pages are merged");
	expect(memory_by_pipe(one, size, fd), "merged memory to file");
	expect(same(fd, two, size), "the file has it");
	expect(get(KSM "pages_sharing") - before == shared, "the pages stay merged");

	need(!pipe(fds) && vmsplice(fds[1], &iov, 1, 0) == PAGE, "vmsplice");
	memcpy(old, one, PAGE);
	memset(one, 0x55, PAGE);
	expect(read(fds[0], page, PAGE) == PAGE && !memcmp(page, old, PAGE),
	       "a write to a merged page makes a page of its own");
	expect(!memcmp(two, old, PAGE), "the other memory has not changed");
}

#define GROUP "/sys/fs/cgroup/options_test"

static void memcg(const char *folder)
{
	size_t size = 64 * MIB, limit = 24 * MIB, part = 4 * MIB;
	int from = file(folder, "memcg_from"), to = file(folder, "memcg_to");
	char *mem = memory(size), pid[32];
	long before, held, after = 0;
	int fds[4][2];

	fill(mem, size);
	for (size_t at = 0; at < size; at += MIB)
		need(write(from, mem + at, MIB) == (ssize_t)MIB, "write");
	fsync(from);
	posix_fadvise(from, 0, 0, POSIX_FADV_DONTNEED);
	mkdir(GROUP, 0755);
	snprintf(pid, sizeof(pid), "%zu", limit);
	need(put(GROUP "/memory.max", pid), "limit");
	put(GROUP "/memory.swap.max", "0");
	snprintf(pid, sizeof(pid), "%d", getpid());
	need(put(GROUP "/cgroup.procs", pid), "group");

	lseek(from, 0, SEEK_SET);
	errno = 0;
	expect(file_by_pipe(from, to, size), "64 MiB of file to file in 24 MiB");
	expect(get(GROUP "/memory.peak") <= (long)limit, "the limit holds");
	fsync(to);
	posix_fadvise(to, 0, 0, POSIX_FADV_DONTNEED);
	posix_fadvise(from, 0, 0, POSIX_FADV_DONTNEED);
	expect(same(to, mem, size), "the file has it");
	posix_fadvise(to, 0, 0, POSIX_FADV_DONTNEED);

	/* Unmapped memory in a pipe is still charged to the cgroup. */
	before = get(GROUP "/memory.current");
	for (int i = 0; i < 4; i++) {
		struct iovec iov = { memory(MIB), MIB };

		fill(iov.iov_base, MIB);
		need(!pipe(fds[i]) && fcntl(fds[i][1], F_SETPIPE_SZ, MIB) == (int)MIB, "pipe");
		need(vmsplice(fds[i][1], &iov, 1, 0) == (ssize_t)MIB, "vmsplice");
		munmap(iov.iov_base, MIB);
	}
	held = get(GROUP "/memory.current");
	expect(held - before >= (long)(part - MIB), "what is in pipes is charged");
	for (int i = 0; i < 4; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	/* Each CPU caches some charges. */
	for (int i = 0; i < 50; i++) {
		after = get(GROUP "/memory.current");
		if (held - after >= (long)(part - MIB))
			break;
		usleep(100000);
	}
	expect(held - after >= (long)(part - MIB), "and no longer once they are closed");
	put("/sys/fs/cgroup/cgroup.procs", pid);
	rmdir(GROUP);
}

static void seccomp(const char *folder)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_vmsplice, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_tee, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_LEN(filter), filter };
	int from = file(folder, "seccomp_from"), to = file(folder, "seccomp_to");
	char *mem = memory(4 * MIB);
	struct iovec iov = { mem, PAGE };
	int one[2], two[2];

	fill(mem, 4 * MIB);
	need(!pipe(one) && !pipe(two), "pipe");
	need(memory_by_pipe(mem, 4 * MIB, from), "vmsplice before the filter");
	need(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
	need(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "filter");
	lseek(from, 0, SEEK_SET);
	expect(file_by_pipe(from, to, 4 * MIB), "splice that the filter allows");
	expect(same(to, mem, 4 * MIB), "the file has it");
	expect(vmsplice(one[1], &iov, 1, 0) < 0 && errno == EPERM, "vmsplice that it denies");
	need(write(one[1], mem, PAGE) == (ssize_t)PAGE, "write");
	expect(tee(one[0], two[1], PAGE, 0) < 0 && errno == EXDEV, "tee that it denies");
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(__NR_bpf, cmd, attr, sizeof(*attr));
}

/* Attaches to SOCK a program that only returns VALUE. */
static int verdict(int map, int sock, int value)
{
	struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = value },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SK_MSG,
		.insns = (uintptr_t)insns, .insn_cnt = 2,
		.license = (uintptr_t)"GPL",
	};
	int program = bpf(BPF_PROG_LOAD, &attr);
	uint32_t key = 0;

	if (program < 0)
		return 0;
	attr = (union bpf_attr){
		.target_fd = map, .attach_bpf_fd = program, .attach_type = BPF_SK_MSG_VERDICT,
	};
	if (bpf(BPF_PROG_ATTACH, &attr))
		return 0;
	/* A socket uses the program that the map has when the socket is added. */
	attr = (union bpf_attr){ .map_fd = map, .key = (uintptr_t)&key };
	bpf(BPF_MAP_DELETE_ELEM, &attr);
	attr = (union bpf_attr){
		.map_fd = map, .key = (uintptr_t)&key, .value = (uintptr_t)&sock, .flags = BPF_ANY,
	};
	return !bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

/* sendfile to a socket whose data a BPF program passes or drops. */
static void sk_msg(const char *folder)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 1,
	};
	int from = file(folder, "bpf_from"), to = file(folder, "bpf_to"), map, listener, out, in;
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	size_t size = 4 * MIB, sent = 0;
	char *mem = memory(size);
	off_t off = 0;
	char byte;
	int status;
	pid_t pid;

	fill(mem, size);
	need(memory_by_pipe(mem, size, from), "file");
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	out = socket(AF_INET, SOCK_STREAM, 0);
	need(!bind(listener, (void *)&address, length) && !listen(listener, 1) &&
	     !getsockname(listener, (void *)&address, &length) &&
	     !connect(out, (void *)&address, length), "connection");
	in = accept(listener, NULL, NULL);
	need(in >= 0, "accept");

	map = bpf(BPF_MAP_CREATE, &attr);
	need(map >= 0, "map");
	need(verdict(map, out, SK_PASS), "program");

	pid = fork();
	if (!pid)
		_exit(!file_by_pipe(in, to, size));
	while (sent < size) {
		ssize_t n = sendfile(out, from, &off, size - sent);

		if (n <= 0)
			break;
		sent += n;
	}
	expect(sent == size, "sendfile past a program that lets pass");
	need(sent == size || !kill(pid, 9), "kill");
	waitpid(pid, &status, 0);
	expect(!status, "socket to file");
	expect(same(to, mem, size), "the file has it");

	need(verdict(map, out, SK_DROP), "program");
	off = 0;
	expect(sendfile(out, from, &off, CHUNK) < 0 && errno == EACCES, "one that drops");
	expect(recv(in, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "nothing arrived");
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*run)(const char *folder); } all[] = {
		{ "ksm", ksm }, { "memcg", memcg }, { "seccomp", seccomp }, { "bpf", sk_msg },
	};

	for (size_t i = 0; argc == 3 && i < ARRAY_LEN(all); i++) {
		if (strcmp(argv[1], all[i].name))
			continue;
		all[i].run(argv[2]);
		printf("1..%d\n", tests);
		return 0;
	}
	fprintf(stderr, "usage: options_test ksm|memcg|seccomp|bpf FOLDER\n");
	return 2;
}
