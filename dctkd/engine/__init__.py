"""Orchestration of training: one loop for teachers and packs of students. The package itself imports no torch."""
