/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM splice

#if !defined(_TRACE_SPLICE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_SPLICE_H

#include <linux/tracepoint.h>

/* The values of rust/kernel/splice/policy.rs. */
#define show_splice_kind(kind)						\
	__print_symbolic(kind, { 0, "socket" }, { 1, "file" },		\
			 { 2, "actor" }, { 3, "source" })
#define show_splice_reason(reason)					\
	__print_symbolic(reason, { 0, "unaudited" }, { 1, "setting" })

/*
 * Data was copied because @sink may not have references to the pages. @sink is
 * the function that gets the copy.
 */
TRACE_EVENT(splice_copy,
	    TP_PROTO(void *sink, unsigned int kind, unsigned int reason, size_t bytes),
	    TP_ARGS(sink, kind, reason, bytes),
	    TP_STRUCT__entry(__field(void *, sink)
			     __field(unsigned int, kind)
			     __field(unsigned int, reason)
			     __field(size_t, bytes)),
	    TP_fast_assign(__entry->sink = sink;
			   __entry->kind = kind;
			   __entry->reason = reason;
			   __entry->bytes = bytes;),
	    TP_printk("sink=%ps kind=%s reason=%s bytes=%zu", __entry->sink,
		      show_splice_kind(__entry->kind),
		      show_splice_reason(__entry->reason), __entry->bytes)
);

#endif

/* This must be outside of the protection above. */
#include <trace/define_trace.h>
