int main(void)
{
	static struct kunit test;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("TAP version 13\n1..1");
	if (!setjmp(alone_leave))
		hvm_play(&test);
	if (test.status != KUNIT_SKIPPED && alone_other_pointer)
		alone_ends(&test, KUNIT_SKIPPED,
			   "undetermined: the private pointer names another kind of object "
			   "than when this was recorded");
	if (test.status == KUNIT_FAILURE) {
		if (hvm.off_record)
			puts("# off the record: some answers were the program's own");
		hvm_result("not ok", test.why);
		return ALONE_FAILS;
	}
	if (test.status == KUNIT_SUCCESS && hvm.off_record)
		alone_ends(&test, KUNIT_SKIPPED,
			   "undetermined: the driver asks for other things than when this was recorded "
			   "(by the program's own small hypervisor the check holds)");
	if (test.status == KUNIT_SKIPPED) {
		printf("ok 1 - %s # SKIP %s\n", hvm_name, test.why);
		return ALONE_NOT_TESTED;
	}
	hvm_result("ok", "");
	return ALONE_HOLDS;
}
