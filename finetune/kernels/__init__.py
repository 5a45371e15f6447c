"""Fast arithmetic for training: attention, fused layers, chunked loss, optimizer, sharding."""
