"""The audit of released code: what was found, how large each effect is, and what is said of it."""
