"""The nightly job: search a driver every night, know what is known, say what is new. ``README.md`` tells what a night does."""
