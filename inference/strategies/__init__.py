"""The decoding strategies as data: the table, its knobs, and the lines that people write."""
