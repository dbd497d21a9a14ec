"""Networks in and out: published entries, anybody's files, and the one door to them."""
