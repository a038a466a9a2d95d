// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>
#include <linux/rust_splice.h>

__rust_helper void rust_helper_splice_count(unsigned int item, u64 n)
{
	this_cpu_add(splice_counters.items[item], n);
}

__rust_helper u64 rust_helper_splice_counter_sum(unsigned int item)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(splice_counters.items[item], cpu);
	return sum;
}
