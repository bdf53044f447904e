"""Two drivers held against each other: what the second one fixes, breaks and changes, and what each costs."""
