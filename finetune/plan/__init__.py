"""What a run will take before it starts: peak memory, time, disk and price, here and on rented machines.

plan = make_plan(config, owner)                      # at once, a rough estimate
plan = make_plan(config, owner, calibrate=True)      # measures its first steps on the device
"""
