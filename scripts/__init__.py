"""What the Makefile needs a program for."""
