"""Long runs against a served process: fuzzing, naughty strings, scanners. Behind `make soak`."""
