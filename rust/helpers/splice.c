// SPDX-License-Identifier: GPL-2.0

/*
 * The inline functions that the abstractions for splice call. There is one file for
 * each C header.
 */
#ifdef CONFIG_RUST_SPLICE
#ifdef CONFIG_SPLICE_CHECK
#include "splice/check.c"
#endif
#include "splice/dma-mapping.c"
#ifndef CONFIG_EVENTFD
#include "splice/eventfd.c"
#endif
#include "splice/file.c"
#include "splice/fs.c"
#include "splice/fsnotify.c"
#include "splice/gfp.c"
#include "splice/highmem.c"
#include "splice/iommu-dma.c"
#include "splice/memremap.c"
#include "splice/mm.c"
#ifndef CONFIG_MODULE_UNLOAD
#include "splice/module.c"
#endif
#ifdef CONFIG_NET
#include "splice/net.c"
#endif
#include "splice/page-flags.c"
#include "splice/pagemap.c"
#include "splice/pipe_fs_i.c"
#include "splice/poll.c"
#include "splice/rust_splice.c"
#include "splice/scatterlist.c"
#include "splice/sched.c"
#ifdef CONFIG_SWIOTLB
#include "splice/swiotlb.c"
#endif
#include "splice/uaccess.c"
#include "splice/user.c"
#include "splice/user_ranges.c"
#include "splice/wait.c"
#endif
