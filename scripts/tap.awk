# SPDX-License-Identifier: GPL-2.0
#
# The part of an awk program that converts a program's TAP to results, one line
# per test: pass|fail|skip, stage, name, and reason. The other part sets stage,
# and at the start of a program's output program, plan and seen. It calls test()
# for each result line, and finish() with the exit code.

function add(res, why) { printf "%s\t%s\t%s\t%s\n", res, stage, name, why }
function finish(rc) {
	if (program == "") return
	name = program
	if (plan == "") add("fail", "no test plan in its output")
	else if (plan != seen) add("fail", seen " results of " plan " planned tests")
	else if (plan == 0) add("fail", "it plans no test")
	else if (rc != 0 && rc != 4 && !failed) add("fail", "exit code " rc)
	program = ""
}
function test(line) {
	seen++
	bad = line ~ /^not /
	sub(/^(not )?ok [0-9]+ ?/, "", line)
	why = line
	sub(/ *# .*/, "", line)
	sub(/^- /, "", line)
	name = program (line == "" ? "" : " " line)
	if (bad) { failed = 1; add("fail", "failed") }
	else if (why ~ /# SKIP/) { sub(/.*# SKIP */, "", why); add("skip", why) }
	else if (why ~ /# XFAIL/) { sub(/.*# XFAIL */, "", why); add("pass", "as expected, it fails: " why) }
	else add("pass", "")
}
{ sub(/\r$/, ""); sub(/^\[ *[0-9]+\.[0-9]+\] /, "") }
