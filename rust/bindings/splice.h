/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers and constants that bindgen needs for splice. bindings_helper.h
 * includes this file.
 */
#include <linux/anon_inodes.h>
#include <linux/bvec.h>
#include <linux/dma-mapping.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/poll.h>
#include <linux/rust_splice.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/skbuff.h>
#include <linux/socket.h>
#include <linux/splice.h>
#include <linux/splice_policy.h>
#include <linux/swap.h>
#include <linux/uio.h>
#include <linux/user_ranges.h>
#include <uapi/linux/splice.h>

/* bindgen does not evaluate the casts in these constants. */
const fmode_t RUST_CONST_HELPER_FMODE_READ = FMODE_READ;
const fmode_t RUST_CONST_HELPER_FMODE_WRITE = FMODE_WRITE;
const fmode_t RUST_CONST_HELPER_FMODE_LSEEK = FMODE_LSEEK;
const fmode_t RUST_CONST_HELPER_FMODE_PREAD = FMODE_PREAD;
const fmode_t RUST_CONST_HELPER_FMODE_PWRITE = FMODE_PWRITE;
const fmode_t RUST_CONST_HELPER_FMODE_NOWAIT = FMODE_NOWAIT;
const gfp_t RUST_CONST_HELPER_GFP_USER = GFP_USER;
const fop_flags_t RUST_CONST_HELPER_FOP_SPLICE_NOWAIT = FOP_SPLICE_NOWAIT;
const fop_flags_t RUST_CONST_HELPER_FOP_SPLICE_READ_NOWAIT = FOP_SPLICE_READ_NOWAIT;
const fop_flags_t RUST_CONST_HELPER_FOP_MAY_SPLICE = FOP_MAY_SPLICE;
const fop_flags_t RUST_CONST_HELPER_FOP_SPLICE_STREAM = FOP_SPLICE_STREAM;
const int RUST_CONST_HELPER_IOCB_NOWAIT = IOCB_NOWAIT;
