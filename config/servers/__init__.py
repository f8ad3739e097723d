"""The servers of development and tests: each a process to be started, found, frozen and killed."""
