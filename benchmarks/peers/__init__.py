"""What others would pick instead, each a small project of its own, and the Go service."""
