/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers that bindgen needs for dma-bufs. bindings_helper.h includes this
 * file.
 */
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>
#include <linux/vmalloc.h>
