"""What a run will take before it starts: peak memory, time, disk and price, here and on rented machines.

plan = make_plan(config, owner)                      # at once, roughly
plan = make_plan(config, owner, calibrate=True)      # its first steps are tried out on the device before
"""
