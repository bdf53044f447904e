"""Models for other model checkers: caller and hypervisor of a small scope, no driver. The gear is measured beside them."""
