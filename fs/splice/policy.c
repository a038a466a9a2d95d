// SPDX-License-Identifier: GPL-2.0
/*
 * The sysctls fs.splice_zerocopy, which is also a boot parameter, and
 * fs.splice_check; the tracepoint for data that is copied because of the former,
 * and the report of the latter. This is in C because sysctl tables and
 * tracepoints are C macros; rust/kernel/splice/policy.rs and
 * rust/kernel/splice/check.rs have the logic.
 */
#include <linux/dcache.h>
#include <linux/init.h>
#include <linux/jump_label.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/printk.h>
#include <linux/rust_splice.h>
#include <linux/splice_policy.h>
#include <linux/sysctl.h>
#include <linux/workqueue.h>

#define CREATE_TRACE_POINTS
#include <trace/events/splice.h>

struct splice_policy splice_policy __read_mostly = {
	.active = STATIC_KEY_FALSE_INIT,
	.none = STATIC_KEY_FALSE_INIT,
	.checking = STATIC_KEY_FALSE_INIT,
	.value = CONFIG_SPLICE_ZEROCOPY_DEFAULT,
};
EXPORT_SYMBOL_GPL(splice_policy);

/* Protects against two writers of the sysctl. */
static DEFINE_MUTEX(splice_policy_mutex);

static void apply(void)
{
	if (splice_policy.value == SPLICE_ZEROCOPY_NONE)
		static_branch_enable(&splice_policy.none);
	else
		static_branch_disable(&splice_policy.none);
	if (splice_policy.value == SPLICE_ZEROCOPY_ALL)
		static_branch_disable(&splice_policy.active);
	else
		static_branch_enable(&splice_policy.active);
}

static int zerocopy_handler(const struct ctl_table *table, int write,
			    void *buffer, size_t *lenp, loff_t *ppos)
{
	int ret;

	guard(mutex)(&splice_policy_mutex);
	ret = proc_dointvec_minmax(table, write, buffer, lenp, ppos);
	if (!ret && write)
		apply();
	return ret;
}

#ifdef CONFIG_SPLICE_CHECK

/* How often the pages are looked at. */
#define CHECK_INTERVAL	(HZ / 5)

static void check_scan(struct work_struct *work);
static DECLARE_DELAYED_WORK(check_work, check_scan);

static void check_scan(struct work_struct *work)
{
	rust_splice_check_scan();
	queue_delayed_work(system_unbound_wq, &check_work, CHECK_INTERVAL);
}

static int check_handler(const struct ctl_table *table, int write,
			 void *buffer, size_t *lenp, loff_t *ppos)
{
	int ret;

	guard(mutex)(&splice_policy_mutex);
	ret = proc_dointvec_minmax(table, write, buffer, lenp, ppos);
	if (ret || !write)
		return ret;
	if (splice_policy.check) {
		static_branch_enable(&splice_policy.checking);
		queue_delayed_work(system_unbound_wq, &check_work,
				   CHECK_INTERVAL);
	} else {
		static_branch_disable(&splice_policy.checking);
		cancel_delayed_work_sync(&check_work);
		rust_splice_check_clear();
	}
	return 0;
}

/* The folio is locked and in the page cache of a file. */
void splice_check_report(struct folio *folio, struct page *page, void *sink,
			 const struct splice_check_task *task, unsigned int age)
{
	struct inode *inode = folio->mapping->host;
	struct dentry *dentry = d_find_alias(inode);

	pr_err("splice: page %lu of %pd (inode %lu on %s) changed, but nobody may write to it: %ps got it %u ms before from %s[%d]\n",
	       folio->index + folio_page_idx(folio, page), dentry,
	       (unsigned long)inode->i_ino, inode->i_sb->s_id, sink, age,
	       task->comm, task->pid);
	dput(dentry);
}

#endif /* CONFIG_SPLICE_CHECK */

static const struct ctl_table splice_policy_sysctls[] = {
	{
		.procname	= "splice_zerocopy",
		.data		= &splice_policy.value,
		.maxlen		= sizeof(splice_policy.value),
		.mode		= 0644,
		.proc_handler	= zerocopy_handler,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_TWO,
	},
#ifdef CONFIG_SPLICE_CHECK
	{
		.procname	= "splice_check",
		.data		= &splice_policy.check,
		.maxlen		= sizeof(splice_policy.check),
		.mode		= 0644,
		.proc_handler	= check_handler,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_ONE,
	},
#endif
};

static int __init zerocopy_setup(char *str)
{
	int value;

	if (kstrtoint(str, 0, &value) || value < SPLICE_ZEROCOPY_NONE ||
	    value > SPLICE_ZEROCOPY_ALL) {
		pr_err("splice_zerocopy: 0, 1 or 2 is expected\n");
		return -EINVAL;
	}
	splice_policy.value = value;
	return 0;
}
early_param("splice_zerocopy", zerocopy_setup);

static int __init splice_policy_init(void)
{
	apply();
	register_sysctl_init("fs", splice_policy_sysctls);
	return 0;
}
fs_initcall(splice_policy_init);

/* Called by rust/kernel/splice/policy.rs. */
void splice_report_copy(void *sink, unsigned int kind, unsigned int reason,
			size_t bytes)
{
	trace_splice_copy(sink, kind, reason, bytes);
}

/* Writes the name of the function @sink to @name, and returns its length. */
size_t splice_sink_name(void *sink, char *name, size_t size)
{
	return scnprintf(name, size, "%ps", sink);
}

/* Called once for each sink, by rust/kernel/splice/policy.rs. */
void splice_report_sink(void *sink)
{
	pr_info("splice: %ps is not audited and gets copies, see fs.splice_zerocopy\n",
		sink);
}
