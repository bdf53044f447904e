/* The handler of a boot option says that it is handled, or the kernel passes it on to init. */
static __maybe_unused void hvm_option(const char *name, const char *value)
{
	int answer = alone_option(name, value);

	if (answer < 0)
		return;
	hvm.reached++;
	if (!answer)
		hvm_broken("the handler of the boot option %s answers 0, not handled", name);
	hvm_report();
}
