"""The model: what a user is and what may happen to one. Knows no framework, no database and no clock."""
