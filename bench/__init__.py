"""What podnet costs, as multiples of what anyone would pay: `make bench`, or `python -m bench`.

A machine's seconds say little, so a part measures the thing and its yardstick in turns within the
same minute and reports the median of the ratios. These are no tests, and no test asserts a time.
"""
