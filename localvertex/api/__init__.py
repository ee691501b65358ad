"""The front ends: gRPC, REST and Cloud Storage over the same services."""
