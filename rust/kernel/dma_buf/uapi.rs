// SPDX-License-Identifier: GPL-2.0

//! The structures that user space exchanges with the drivers.
//!
//! C headers: [`include/uapi/linux/dma_buf_splice.h`](srctree/include/uapi/linux/dma_buf_splice.h),
//! [`include/uapi/linux/splice_edu.h`](srctree/include/uapi/linux/splice_edu.h)

use crate::transmute::{AsBytes, FromBytes};

// SAFETY: The structure consists of integers, and every pattern of bits is valid for them.
unsafe impl FromBytes for uapi::dma_buf_splice_export {}
// SAFETY: The structure consists of integers without padding between them, so all of its bytes are
// initialized.
unsafe impl AsBytes for uapi::dma_buf_splice_export {}

// SAFETY: The structure consists of integers, and every pattern of bits is valid for them.
unsafe impl FromBytes for uapi::splice_edu_transfer {}
