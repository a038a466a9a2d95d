// SPDX-License-Identifier: GPL-2.0

//! The structures of `include/uapi/linux/rdma_splice.h` consist of bytes, and can be copied from
//! and to user memory.

use crate::transmute::{AsBytes, FromBytes};

// SAFETY: The structure consists of integers, and every pattern of bits is valid for them.
unsafe impl FromBytes for uapi::rdma_splice_connect {}
// SAFETY: The structure consists of integers, and every pattern of bits is valid for them.
unsafe impl FromBytes for uapi::rdma_splice_listen {}
// SAFETY: The structure consists of integers, and every pattern of bits is valid for them.
unsafe impl FromBytes for uapi::rdma_splice_accept {}
// SAFETY: The structure consists of integers without padding between them, so all of its bytes are
// initialized.
unsafe impl AsBytes for uapi::rdma_splice_accept {}
// SAFETY: The structure consists of integers without padding between them, so all of its bytes are
// initialized.
unsafe impl AsBytes for uapi::rdma_splice_info {}
