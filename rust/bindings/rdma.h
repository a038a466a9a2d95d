/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers that bindgen needs for RDMA. bindings_helper.h includes this file.
 */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/skbuff.h>
#include <linux/socket.h>
#include <rdma/ib_cm.h>
#include <rdma/ib_verbs.h>
#include <rdma/rdma_cm.h>
#include <uapi/linux/rdma_splice.h>
