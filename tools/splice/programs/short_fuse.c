// SPDX-License-Identifier: GPL-2.0
/*
 * A libfuse file system whose files end before the size that it reports, like
 * files of /proc and files that shrink.
 *
 *	short_fuse FD FOLDER
 *
 * FD is /dev/fuse, mounted already. The files are those of FOLDER, each reported
 * as 1 MiB longer than it is. Replies are spliced. libfuse puts the header of a
 * reply into a pipe by vmsplice(2). If the file is shorter than expected, libfuse
 * corrects the length in its own memory, and the kernel must see the new value.
 */
#define FUSE_USE_VERSION 317

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MORE	1048576

static int folder;

/* Inode numbers are those of FOLDER, whose files are on one file system. */
static char *name_of[64];

static int stat_of(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0555;
		st->st_nlink = 2;
		return 0;
	}
	if (fstatat(folder, name_of[ino], st, 0))
		return -1;
	st->st_ino = ino;
	st->st_size += MORE;
	return 0;
}

static void short_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	if (!fuse_set_feature_flag(conn, FUSE_CAP_SPLICE_WRITE)) {
		fprintf(stderr, "short_fuse: no splicing to /dev/fuse\n");
		exit(1);
	}
	fuse_set_feature_flag(conn, FUSE_CAP_SPLICE_MOVE);
}

static void short_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { };

	(void)parent;
	for (fuse_ino_t i = FUSE_ROOT_ID + 1; i < 64 && name_of[i]; i++) {
		if (strcmp(name, name_of[i]))
			continue;
		entry.ino = i;
		if (stat_of(i, &entry.attr))
			break;
		fuse_reply_entry(req, &entry);
		return;
	}
	fuse_reply_err(req, ENOENT);
}

static void short_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (stat_of(ino, &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, 0);
}

static void short_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd = ino == FUSE_ROOT_ID ? -1 : openat(folder, name_of[ino], O_RDONLY);

	if (fd < 0) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->fh = fd;
	fuse_reply_open(req, fi);
}

static void short_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	(void)ino;
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fi->fh;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}

static void short_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	close(fi->fh);
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
	.init = short_init,
	.lookup = short_lookup,
	.getattr = short_getattr,
	.open = short_open,
	.read = short_read,
	.release = short_release,
};

int main(int argc, char **argv)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session;
	char mounted[32];
	struct dirent *entry;
	fuse_ino_t next = FUSE_ROOT_ID + 1;
	DIR *dir;

	if (argc != 3) {
		fprintf(stderr, "usage: short_fuse FD FOLDER\n");
		return 2;
	}
	dir = opendir(argv[2]);
	if (!dir) {
		perror(argv[2]);
		return 1;
	}
	folder = dirfd(dir);
	while ((entry = readdir(dir)))
		if (entry->d_type == DT_REG && next < 63)
			name_of[next++] = strdup(entry->d_name);

	session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	snprintf(mounted, sizeof(mounted), "/dev/fd/%s", argv[1]);
	if (!session || fuse_session_mount(session, mounted))
		return 1;
	return fuse_session_loop_mt(session, config) != 0;
}
