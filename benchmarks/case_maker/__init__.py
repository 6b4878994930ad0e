"""Hard cases with known answers, made from co-registered pairs: misregistered, damaged, or of two places."""
