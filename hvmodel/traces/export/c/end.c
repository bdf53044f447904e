static void hvm_says(unsigned int step)
{
	printf("# step %u: %s\n", step, hvm_headlines[step - 1]);
	fflush(stdout);
	alone_forget_thread();
}

#define hvm_step(n) (hvm_says(n), hvm_step(n))
