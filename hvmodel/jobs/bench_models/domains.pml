/* One device, one domain, PAGES pages (2 to 12), mappings of one or two pages, at most one fault a trace: the model of domains.py,
   state for state and transition for transition, for SPIN. There is no driver in it.

       spin -DPAGES=3 -a domains.pml && cc -DSAFETY -DBFS -o pan pan.c && ./pan
*/
#ifndef PAGES
#define PAGES 3
#endif
#ifdef BROKEN
#define TOLD(s, c) held = held & ~BITS(s, c) /* a refused unmap is answered as if all of it were gone */
#else
#define TOLD(s, c) skip
#endif

mtype = { absent, live, freed };

mtype domain = absent;
bool attached = false;
bool spent = false; /* the fault of this trace has been */
short held = 0;     /* pages, as bits: what the caller holds */
short mapped = 0;   /* what the hypervisor maps */

#define BITS(s, c) (((1 << c) - 1) << s)
#define MAPPABLE(s, c) (domain == live && s + c <= PAGES && (held & BITS(s, c)) == 0)
#define UNMAPPABLE(s, c) (domain == live && s + c <= PAGES && (held & BITS(s, c)) != 0)

#define MAP(s, c) \
	:: d_step { MAPPABLE(s, c) -> held = held | BITS(s, c); mapped = mapped | BITS(s, c) }
#define MAP_REFUSED(s, c) \
	:: d_step { MAPPABLE(s, c) && !spent -> spent = true } /* what was mapped before the refusal is taken back */
#define UNMAP(s, c) \
	:: d_step { UNMAPPABLE(s, c) -> held = held & ~BITS(s, c); mapped = mapped & ~BITS(s, c) }
#define UNMAP_REFUSED(s, c, done) /* what is gone then, the caller is not told */ \
	:: d_step { UNMAPPABLE(s, c) && !spent -> spent = true; mapped = mapped & ~(done << s); TOLD(s, c); \
		assert((mapped & ~held) == 0) }
#define AT(s) \
	MAP(s, 1) MAP_REFUSED(s, 1) UNMAP(s, 1) UNMAP_REFUSED(s, 1, 0) \
	MAP(s, 2) MAP_REFUSED(s, 2) MAP_REFUSED(s, 2) UNMAP(s, 2) UNMAP_REFUSED(s, 2, 0) UNMAP_REFUSED(s, 2, 1)

active proctype caller()
{
end:	do
	:: d_step { domain == absent -> domain = live }
	:: d_step { domain == absent && !spent -> spent = true }
	:: d_step { domain == live -> attached = !attached }
	:: d_step { domain == live && !spent -> spent = true }
	:: d_step { domain == live && !attached -> domain = freed; held = 0; mapped = 0 }
	:: d_step { domain == live && !attached && !spent -> domain = freed; held = 0; mapped = 0; spent = true }
	AT(0) AT(1) AT(2) AT(3) AT(4) AT(5) AT(6) AT(7) AT(8) AT(9) AT(10) AT(11)
	od
}
