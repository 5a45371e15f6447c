"""What a run will take before it starts: peak memory, time, disk and price, here and on rented machines.

with run_inputs(config, owner) as inputs:
    plan = plan_of(inputs, owner)                      # at once, a rough estimate
    plan = plan_of(inputs, owner, calibrate=True)      # measures its first steps on the device
"""
